"""Saving, loading, copying: a policy goes on with the masks, counters and streams that it had."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from torch.optim.swa_utils import AveragedModel

import dstrl
from dstrl.policies.networks import SparseSACActor, SparseTD3Actor, dense_copy
from sparse_core import SparseConfig, sparsify

ENVS = {PPO: "CartPole-v1", A2C: "CartPole-v1", DQN: "CartPole-v1"}


@pytest.fixture(params=["masked", "condensed"], autouse=True)
def backend(request, monkeypatch):
    monkeypatch.setitem(DEFAULTS, "backend", request.param)
    return request.param


DEFAULTS = dict(method="srigl", sparsity=0.8, update_every=3)


def build(algorithm, **sparse):
    dstrl.register()
    sparse = DEFAULTS | sparse
    return algorithm(
        "SparseMlpPolicy",
        ENVS.get(algorithm, "Pendulum-v1"),
        policy_kwargs=dict(sparse=sparse, net_arch=[16, 16]),
        seed=None,
        device="cpu",
    )


def feed(policy, first, last):
    """Give a policy the same losses as any other one: optimizer steps `first` to `last`."""
    for step in range(first, last):
        for index, engine in enumerate(policy.sparse_engines.values()):
            generator = torch.Generator().manual_seed(100 * step + index)
            engine.optimizer.zero_grad()
            loss = sum(
                (layer(torch.randn(8, layer.in_features, generator=generator)) ** 3).mean()
                for layer in engine.root.modules()
                if isinstance(layer, torch.nn.Linear)
            )
            loss.backward()
            engine.optimizer.step()


def equal(left, right):
    mine, other = left.state_dict(), right.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[k], other[k]) for k in mine)


@pytest.mark.parametrize("method", ["set", "rigl", "srigl"])
@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN, SAC, TD3])
def test_a_loaded_model_goes_on_as_if_it_had_never_stopped(algorithm, method, tmp_path):
    model = build(algorithm, method=method)
    for engine in model.policy.sparse_engines.values():
        engine.set_horizon(20)
    feed(model.policy, 0, 5)
    model.save(tmp_path / "model")
    torch.manual_seed(999)
    loaded = algorithm.load(tmp_path / "model", device="cpu")
    assert equal(model.policy, loaded.policy)
    for policy in (model.policy, loaded.policy):
        feed(policy, 5, 11)
    assert equal(model.policy, loaded.policy)
    for engine in loaded.policy.sparse_engines.values():
        assert (engine.steps, engine.updates, engine.horizon) == (11, 3, 20)


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_learning_goes_on_after_loading(algorithm, tmp_path, backend):
    short = dict(n_steps=16, batch_size=16, n_epochs=1) if algorithm is PPO else dict(batch_size=4)
    dstrl.register()
    model = algorithm(
        "SparseMlpPolicy",
        ENVS.get(algorithm, "Pendulum-v1"),
        policy_kwargs=dict(
            sparse=dict(method="rigl", update_every=1, backend=backend), net_arch=[8]
        ),
        device="cpu",
        **short,
    ).learn(112)
    model.save(tmp_path / "model")
    steps = {name: e.steps for name, e in model.policy.sparse_engines.items()}
    env = gym.make(ENVS.get(algorithm, "Pendulum-v1"))
    loaded = algorithm.load(tmp_path / "model", env=env, device="cpu")
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.num_timesteps == 144
    more = 2 if algorithm is PPO else 32
    for name, engine in loaded.policy.sparse_engines.items():
        assert engine.steps == engine.updates == steps[name] + more
        assert all(tensor.count() == tensor.budget for tensor in engine.tensors)


@pytest.mark.parametrize("algorithm", [PPO, DQN, SAC, TD3])
def test_a_policy_is_saved_and_loaded_on_its_own(algorithm, tmp_path):
    policy = build(algorithm).policy
    feed(policy, 0, 4)
    policy.save(tmp_path / "policy.pt")
    loaded = type(policy).load(tmp_path / "policy.pt", device="cpu")
    assert equal(policy, loaded)
    assert loaded.sparse == policy.sparse


@pytest.mark.parametrize(("algorithm", "actor"), [(SAC, SparseSACActor), (TD3, SparseTD3Actor)])
def test_an_actor_is_saved_and_loaded_on_its_own(algorithm, actor, tmp_path):
    model = build(algorithm)
    feed(model.policy, 0, 4)
    model.actor.save(tmp_path / "actor.pt")
    loaded = actor.load(tmp_path / "actor.pt", device="cpu")
    assert equal(model.actor, loaded)
    observation = model.observation_space.sample()
    expected = model.actor.predict(observation, deterministic=True)[0]
    assert (loaded.predict(observation, deterministic=True)[0] == expected).all()


@pytest.mark.parametrize("copied_by", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
@pytest.mark.parametrize("algorithm", [PPO, DQN, SAC, TD3])
def test_a_copy_lives_its_own_life(algorithm, copied_by):
    policy = build(algorithm, method="rigl").policy
    feed(policy, 0, 4)
    twin = copied_by(policy)
    before = copy.deepcopy(policy.state_dict())
    feed(twin, 4, 8)
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    feed(policy, 4, 8)
    assert equal(policy, twin)
    assert all(engine.updates == 2 for engine in twin.sparse_engines.values())


def test_parameters_can_be_set_from_another_model():
    model, other = build(SAC), build(SAC)
    feed(other.policy, 0, 5)
    model.set_parameters(copy.deepcopy(other.get_parameters()))
    assert equal(model.policy, other.policy)
    for policy in (model.policy, other.policy):
        feed(policy, 5, 8)
    assert equal(model.policy, other.policy)


def test_every_entry_of_the_state_is_a_float_as_stable_baselines3_expects():
    for algorithm in (PPO, A2C, SAC, TD3, DQN):
        state = build(algorithm).policy.state_dict()
        assert {value.dtype for value in state.values()} == {torch.float32}


def test_a_dense_copy_computes_the_same_and_leaves_the_original_sparse():
    net = build(PPO).policy.mlp_extractor.policy_net
    twin = dense_copy(net)
    inputs = torch.randn(3, 4)
    torch.testing.assert_close(net(inputs), twin(inputs))
    assert type(twin[0]) is torch.nn.Linear
    assert twin.state_dict().keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert type(net[0]) is not torch.nn.Linear


def test_a_dense_copy_of_an_embedding(backend):
    net = torch.nn.Sequential(torch.nn.Embedding(9, 6, padding_idx=1), torch.nn.Linear(6, 2))
    sparsify(net, SparseConfig(method="rigl", sparsity=0.5, embeddings=True, backend=backend))
    twin = dense_copy(net)
    torch.testing.assert_close(twin(torch.arange(9)), net(torch.arange(9)))
    assert type(twin[0]) is torch.nn.Embedding
    assert set(twin.state_dict()) - {"sparse_clock"} == {"0.weight", "1.weight", "1.bias"}


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_active_weights_take_the_values_of_a_dense_policy(algorithm):
    """A warm start from a dense policy, or from one that was cloned from demonstrations."""
    model = build(algorithm)
    dense = algorithm(
        "MlpPolicy",
        ENVS.get(algorithm, "Pendulum-v1"),
        policy_kwargs=dict(net_arch=[16, 16]),
        device="cpu",
    )
    masks = topologies(model.policy)
    model.set_parameters({"policy": dense.policy.state_dict()}, exact_match=False)
    for name, engine in model.policy.sparse_engines.items():
        given = dense.policy if name == "policy" else getattr(dense.policy, name)
        for tensor, mask in zip(engine.tensors, masks[name], strict=True):
            assert torch.equal(tensor.active(), mask)
            assert torch.equal(tensor.values(), given.get_parameter(tensor.name) * mask)
    feed(model.policy, 0, 4)


@pytest.mark.parametrize("algorithm", [PPO, DQN, SAC])
def test_noise_on_all_weights_leaves_inactive_ones_zero(algorithm):
    """The evolution strategies of Stable-Baselines3's examples."""
    policy = build(algorithm, method="rigl").policy
    feed(policy, 0, 4)
    noise = {k: v + torch.randn_like(v) for k, v in policy.named_parameters()}
    policy.load_state_dict(noise, strict=False)
    assert not any(outside(policy))
    vector = policy.parameters_to_vector() + 1
    given = vector.copy()
    policy.load_from_vector(vector)
    assert not any(outside(policy)) and (vector == given).all()
    actor = getattr(policy, "actor", None)
    if actor is not None:
        actor.load_from_vector(actor.parameters_to_vector() + 1)
        assert not any(outside(policy))
    feed(policy, 4, 8)


def topologies(policy):
    engines = policy.sparse_engines.items()
    return {name: [t.active().clone() for t in engine.tensors] for name, engine in engines}


def outside(policy):
    """Whether sparse weights, of targets too, have values outside their masks; one by one."""
    for engine in policy.sparse_engines.values():
        copies = [c for follower in engine._followers for c in follower.copies.values()]
        for tensor in (*engine.tensors, *copies):
            yield bool(tensor.values()[~tensor.active()].any())


@pytest.mark.parametrize("algorithm", [PPO, DQN, SAC, TD3])
def test_an_average_of_a_policy_is_the_mean_of_its_dense_weights(algorithm):
    policy = build(algorithm, method="rigl").policy
    averaged = AveragedModel(policy, use_buffers=True)
    means = {}
    for step in range(6):
        feed(policy, step, step + 1)
        averaged.update_parameters(policy)
        for name, engine in policy.sparse_engines.items():
            for t in engine.tensors:
                so_far = means.get((name, t.name), t.values())
                means[name, t.name] = torch.lerp(so_far, t.values(), 1 / (step + 1))
    for name, engine in averaged.module.sparse_engines.items():
        for tensor in engine.tensors:
            torch.testing.assert_close(tensor.values(), means[name, tensor.name])
        assert engine.sparsity < policy.sparse_engines[name].sparsity
    averaged.module.predict(policy.observation_space.sample())
    assert torch.equal(averaged.module.sparse_settings, policy.sparse_settings)
    again = AveragedModel(policy)
    again.load_state_dict(averaged.state_dict())
    assert equal(again, averaged)


def feed_at_once(policy, first, last):
    """Like `feed`, for engines that share an optimizer."""
    layers = [layer for layer in policy.modules() if isinstance(layer, torch.nn.Linear)]
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        policy.optimizer.zero_grad()
        inputs = (torch.randn(8, layer.in_features, generator=generator) for layer in layers)
        outputs = (layer(rows) for layer, rows in zip(layers, inputs, strict=True))
        sum((output**3).mean() for output in outputs).backward()
        policy.optimizer.step()


@pytest.mark.parametrize("share", [True, False])
def test_a_state_has_every_weight_once_when_actor_and_critic_are_apart(share):
    def apart():
        agent = build(PPO, actor_sparsity=0.7, critic_sparsity=0.5)
        agent.policy_kwargs["share_features_extractor"] = share
        agent._setup_model()
        return agent.policy

    policy, other = apart(), apart()
    places = [entry.data_ptr() for entry in policy.state_dict().values() if entry.numel()]
    assert len(places) == len(set(places))
    feed_at_once(policy, 0, 7)
    other.load_state_dict(policy.state_dict())
    assert equal(other, policy)
    feed_at_once(policy, 7, 14)
    assert not equal(other, policy)
    other.optimizer.load_state_dict(copy.deepcopy(policy.optimizer.state_dict()))
    other.load_state_dict(policy.state_dict())
    twin = copy.deepcopy(policy)
    for one in (policy, other, twin):
        feed_at_once(one, 14, 21)
    assert equal(other, policy) and equal(twin, policy)


def test_a_part_of_a_state_changes_that_part_when_actor_and_critic_are_apart():
    policy = build(PPO, actor_sparsity=0.7, critic_sparsity=0.5).policy
    before = copy.deepcopy(policy.state_dict())
    result = policy.load_state_dict({"value_net.bias": before["value_net.bias"] + 1}, strict=False)
    assert not result.unexpected_keys
    assert "mlp_extractor.policy_net.0.bias" in result.missing_keys
    after = policy.state_dict()
    assert torch.equal(after["value_net.bias"], before["value_net.bias"] + 1)
    others = before.keys() - {"value_net.bias"}
    assert all(torch.equal(after[key], before[key]) for key in others)
