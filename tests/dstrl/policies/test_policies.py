"""Sparse policies inside Stable-Baselines3: they train, and dense ones are its own to the bit."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3

import dstrl
from dstrl import SparseActorCriticPolicy, SparseSACPolicy
from dstrl.policies.names import NAMES, SIMBA, policies
from sparse_core.config import SparseConfig

SMALL = {
    PPO: ("CartPole-v1", dict(n_steps=32, batch_size=16, n_epochs=2), 64),
    A2C: ("CartPole-v1", {}, 40),
    DQN: ("CartPole-v1", dict(learning_starts=8, train_freq=1, batch_size=8), 40),
    SAC: ("Pendulum-v1", dict(learning_starts=8, batch_size=8, buffer_size=200), 40),
    TD3: ("Pendulum-v1", dict(learning_starts=8, batch_size=8, buffer_size=200), 40),
    DDPG: ("Pendulum-v1", dict(learning_starts=8, batch_size=8, buffer_size=200), 40),
}


@pytest.fixture(autouse=True)
def registered():
    dstrl.register()


def train(algorithm, policy="SparseMlpPolicy", steps=None, seed=3, **policy_kwargs):
    env, arguments, few = SMALL[algorithm]
    policy_kwargs = {"net_arch": [16, 16]} | policy_kwargs
    model = algorithm(
        policy, env, policy_kwargs=policy_kwargs, seed=seed, device="cpu", **arguments
    )
    return model.learn(few if steps is None else steps)


def quick(**values):
    return dict(method="srigl", sparsity=0.8, update_every=3) | values


@pytest.mark.parametrize(
    ("algorithm", "policy", "env"),
    [
        (PPO, SparseActorCriticPolicy, "CartPole-v1"),
        (SAC, SparseSACPolicy, "Pendulum-v1"),
    ],
)
def test_the_plain_call(algorithm, policy, env):
    model = algorithm(policy, env, policy_kwargs=dict(sparse=dict(method="srigl", sparsity=0.9)))
    action, _ = model.predict(model.observation_space.sample())
    assert model.action_space.contains(action)
    for engine in model.policy.sparse_engines.values():
        assert engine.config.method == "srigl"
        assert engine.sparsity == pytest.approx(0.9, abs=0.001)


@pytest.mark.parametrize("algorithm", SMALL)
def test_every_algorithm_trains_and_keeps_its_budget(algorithm):
    model = train(algorithm, sparse=quick(method="rigl"))
    for engine in model.policy.sparse_engines.values():
        assert engine.updates >= 2
        for tensor in engine.tensors:
            assert tensor.count() == tensor.budget
            assert torch.equal(tensor.weight, tensor.weight * tensor.mask)
        assert abs(engine.sparsity - 0.8) * sum(t.weight.numel() for t in engine.tensors) < 1


@pytest.mark.parametrize("algorithm", SMALL)
def test_a_dense_policy_is_stable_baselines3s_own_to_the_bit(algorithm):
    ours = train(algorithm, sparse=dict(method="dense"))
    theirs = train(algorithm, policy="MlpPolicy")
    mine = dict(ours.policy.named_parameters())
    for name, parameter in theirs.policy.named_parameters():
        assert torch.equal(parameter, mine[name]), name
    assert mine.keys() == dict(theirs.policy.named_parameters()).keys()


@pytest.mark.parametrize("algorithm", SMALL)
def test_the_same_seed_gives_the_same_bytes(algorithm):
    first, second = (train(algorithm, sparse=quick()).policy.state_dict() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_masks_and_the_users_seed_wins():
    def mask(run_seed, **values):
        model = train(PPO, steps=0, seed=run_seed, sparse=quick(**values))
        return model.policy.mlp_extractor.policy_net[2].weight_mask

    assert torch.equal(mask(1), mask(1))
    assert not torch.equal(mask(1), mask(2))
    assert torch.equal(mask(1, seed=7), mask(2, seed=7))


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_masks_disturb_no_other_random_stream(algorithm):
    sparse = train(algorithm, steps=0, sparse=quick(method="set"))
    after_sparse = torch.get_rng_state()
    dense = train(algorithm, steps=0, policy="MlpPolicy")
    assert torch.equal(after_sparse, torch.get_rng_state())
    before = torch.get_rng_state()
    for engine in sparse.policy.sparse_engines.values():
        engine.update()
    assert torch.equal(before, torch.get_rng_state())
    assert sparse.action_space.sample() == dense.action_space.sample()


def test_clipping_sees_the_norm_of_active_weights_only():
    model = train(PPO, steps=0, sparse=dict(method="rigl", sparsity=0.9, update_every=1))
    policy = model.policy
    observations = torch.randn(16, 4)
    values, log_prob, _ = policy.evaluate_actions(observations, torch.zeros(16))
    (values.pow(2).mean() + log_prob.mean()).backward()
    (engine,) = policy.sparse_engines.values()
    masks = {tensor.name: tensor.mask for tensor in engine.tensors}
    squares = [
        (p.grad * masks.get(name, torch.ones_like(p))).double().pow(2).sum()
        for name, p in policy.named_parameters()
    ]
    expected = torch.stack(squares).sum().sqrt()
    clipped = torch.nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
    assert clipped.item() == pytest.approx(expected.item(), rel=1e-6)
    dense = [tensor.tap.value for tensor in engine.tensors]
    assert all(gradient is not None and gradient.count_nonzero() > 0 for gradient in dense)


def test_roles_of_a_two_headed_policy():
    model = train(PPO, steps=0, sparse=quick())
    (engine,) = model.policy.sparse_engines.values()
    assert {layer.name: layer.role for layer in engine.layers()} == {
        "mlp_extractor.policy_net.0.weight": "input",
        "mlp_extractor.policy_net.2.weight": "hidden",
        "mlp_extractor.value_net.0.weight": "input",
        "mlp_extractor.value_net.2.weight": "hidden",
        "action_net.weight": "output",
        "value_net.weight": "output",
    }


def test_roles_of_an_actor_and_two_critics():
    engines = train(SAC, steps=0, sparse=quick()).policy.sparse_engines
    roles = {name: [x.role for x in engine.layers()] for name, engine in engines.items()}
    assert roles == {
        "actor": ["input", "hidden", "output", "output"],
        "critic": ["input", "hidden", "output"] * 2,
    }


def test_dense_ends_stay_dense():
    model = train(PPO, sparse=quick(method="rigl", dense=("input", "output")))
    (engine,) = model.policy.sparse_engines.values()
    assert [tensor.role for tensor in engine.tensors] == ["hidden", "hidden"]
    assert engine.sparsity == pytest.approx(0.8, abs=0.001)


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_actor_and_critic_can_differ(algorithm):
    sparse = dict(method="rigl", update_every=2, actor_sparsity=0.9, critic_sparsity=0.5)
    model = train(algorithm, sparse=sparse | dict(critic_method="static"))
    engines = model.policy.sparse_engines
    assert engines["actor"].sparsity == pytest.approx(0.9, abs=0.01)
    assert engines["critic"].sparsity == pytest.approx(0.5, abs=0.01)
    assert engines["actor"].updates > 0
    assert engines["critic"].updates == 0
    assert engines["actor"].steps == engines["critic"].steps


def test_names_are_known_after_register():
    for algorithm in SMALL:
        assert set(NAMES) <= set(algorithm.policy_aliases)
    assert all(len(set(named) - {SIMBA}) in (1, len(NAMES)) for named in policies().values())
    assert sum(SIMBA in named for named in policies().values()) == 7


def test_a_config_object_will_do():
    config = SparseConfig(method="static", sparsity=0.5, seed=4)
    model = train(PPO, steps=0, sparse=config)
    assert model.policy.sparse_engines["policy"].config == config


@pytest.mark.parametrize(
    ("sparse", "message"),
    [
        (dict(method="magic"), "method='magic': must be one of dense, static"),
        (dict(sparsity=1.0), "sparsity=1.0: must be a number in [0, 1)"),
        (dict(sparsty=0.9), "sparse='sparsty': unknown key; there are method, sparsity"),
        (dict(target="soft"), "target='soft': must be one of online, copy, density, union"),
        (dict(actor_sparsity=2), "actor_sparsity=2: must be a number in [0, 1)"),
        (0.9, "sparse=0.9: must be a mapping or a SparseConfig"),
    ],
)
def test_bad_settings_are_refused_in_one_line(sparse, message):
    with pytest.raises(ValueError) as caught:
        train(PPO, steps=0, sparse=sparse)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
