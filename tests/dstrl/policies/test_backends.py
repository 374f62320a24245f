"""Masked and condensed policies train alike inside Stable-Baselines3, target networks included."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import polyak_update

import dstrl
from dstrl.watching.callbacks import SparseCallback
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.linear import MaskedLinear
from tests.sparse_core.ties import Twins

OFF_POLICY = dict(learning_starts=10, batch_size=16, buffer_size=400)
SMALL = {
    PPO: ("CartPole-v1", dict(n_steps=64, batch_size=32, n_epochs=4), 256),
    A2C: ("CartPole-v1", dict(n_steps=8), 320),
    DQN: (
        "CartPole-v1",
        OFF_POLICY | dict(train_freq=1, target_update_interval=7, exploration_fraction=1.0),
        150,
    ),
    SAC: ("Pendulum-v1", OFF_POLICY, 80),
    TD3: ("Pendulum-v1", OFF_POLICY, 80),
    DDPG: ("Pendulum-v1", OFF_POLICY, 80),
}


@pytest.fixture(autouse=True)
def registered():
    dstrl.register()


def build(algorithm, backend, method="srigl", arch=(24, 24), **extra):
    env, arguments, _ = SMALL[algorithm]
    sparse = dict(method=method, sparsity=0.7, update_every=10, backend=backend)
    sparse |= extra.pop("sparse", {})
    arguments = arguments | extra.pop("arguments", {})
    return algorithm(
        "SparseMlpPolicy",
        env,
        policy_kwargs=dict(sparse=sparse, net_arch=list(arch)) | extra,
        seed=5,
        device="cpu",
        **arguments,
    )


class Topologies(BaseCallback):
    """Keeps the mask of every weight after every update."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_training_start(self):
        for name, engine in self.model.policy.sparse_engines.items():
            engine.observers.append(
                lambda moment, deltas, name=name, engine=engine: self.seen.append(
                    (engine, [(f"{name}: {t.name}", t.active()) for t in engine.tensors])
                )
            )

    def _on_step(self):
        return True


@pytest.mark.parametrize("method", ["rigl", "srigl"])
@pytest.mark.parametrize("algorithm", SMALL)
def test_both_backends_visit_the_same_topologies_and_agree_on_weights(algorithm, method):
    runs = []
    for backend in ("masked", "condensed"):
        model, watch = build(algorithm, backend, method), Topologies()
        runs.append((model.learn(SMALL[algorithm][2], callback=watch).policy, watch.seen))
    (masked, theirs), (condensed, ours) = runs
    assert len(ours) == len(theirs) >= 3
    twins = Twins()
    for (engine, masks), (_, others) in zip(ours, theirs, strict=True):
        assert [name for name, _ in masks] == [name for name, _ in others]
        pairs = [(n, one, other) for (n, one), (_, other) in zip(masks, others, strict=True)]
        if not twins.alike(pairs, engine.tensors[0].structure):
            return
    for name, engine in condensed.sparse_engines.items():
        twin = masked.sparse_engines[name]
        for one, other in zip(engine.tensors, twin.tensors, strict=True):
            assert type(one.layer) is CondensedLinear
            assert type(other.layer) is MaskedLinear
            torch.testing.assert_close(one.values(), other.values(), rtol=1e-3, atol=1e-4)
    for (name, one), (_, other) in zip(targets(condensed), targets(masked), strict=True):
        if isinstance(one, CondensedLinear):
            dense = other.weight * other.weight_mask
            torch.testing.assert_close(one.dense_weight(), dense, rtol=1e-3, atol=1e-4, msg=name)


def targets(policy):
    return [
        (name, layer)
        for name, layer in policy.named_modules()
        if "target" in name and isinstance(layer, torch.nn.Linear)
    ]


def test_sequentials_run_as_chains_online_and_in_targets():
    policy = build(SAC, "condensed").policy
    for net in (policy.actor.latent_pi, policy.critic.qf0, policy.critic_target.qf1):
        assert type(net) is CondensedSequential
        assert [type(m) is CondensedLinear for m in net][::2] == [True] * len(net[::2])


@pytest.mark.parametrize(
    ("algorithm", "arch", "settings", "condensed"),
    [
        (SAC, [256, 256], {}, True),
        (SAC, [64, 64], {}, True),
        (SAC, [16, 16], dict(min_fan_in=1), False),
        (SAC, [256, 256], dict(backend="masked"), False),
        (SAC, [64, 64], dict(batch=8), False),
        (SAC, [256, 256], dict(target="union"), False),
        (PPO, [256, 256], {}, True),
        (PPO, [16, 16], dict(min_fan_in=1), False),
        (DQN, [256, 256], {}, True),
        (DQN, [64, 64], {}, False),
    ],
)
def test_auto_is_the_default_and_condenses_where_it_pays(algorithm, arch, settings, condensed):
    sparse = dict(method="srigl", sparsity=0.9) | settings
    policy = algorithm(
        "SparseMlpPolicy",
        SMALL[algorithm][0],
        policy_kwargs=dict(sparse=sparse, net_arch=arch),
        device="cpu",
        **({} if algorithm is PPO else dict(buffer_size=100)),
    ).policy
    kinds = {type(m) for m in policy.modules() if isinstance(m, torch.nn.Linear)}
    assert (CondensedLinear in kinds) == condensed


class Encoder(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 12)
        self.net = torch.nn.Sequential(torch.nn.Linear(space.shape[0], 12), torch.nn.ReLU())

    def forward(self, observations):
        return self.net(observations)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("algorithm", [PPO, DQN, SAC, TD3])
def test_features_extractors_of_both_backends_train_alike(algorithm, share):
    if algorithm is DQN and share:
        pytest.skip("has one network only")
    extra = dict(features_extractor_class=Encoder)
    if algorithm is not DQN:
        extra |= dict(share_features_extractor=share)
    masked, condensed = (
        build(algorithm, backend, "rigl", **extra).learn(SMALL[algorithm][2]).policy
        for backend in ("masked", "condensed")
    )
    twins = Twins()
    for name, engine in condensed.sparse_engines.items():
        assert engine.updates > 2
        if not twins.tensors_alike(engine.tensors, masked.sparse_engines[name].tensors):
            return
        for one, other in zip(engine.tensors, masked.sparse_engines[name].tensors, strict=True):
            torch.testing.assert_close(one.values(), other.values(), rtol=1e-3, atol=1e-4)
    for (name, one), (_, other) in zip(targets(condensed), targets(masked), strict=True):
        assert type(one) is CondensedLinear
        dense = other.weight * other.weight_mask
        torch.testing.assert_close(one.dense_weight(), dense, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_a_copy_stands_still_and_takes_the_online_masks_with_each_update(tau, backend):
    policy = build(DQN, backend, "rigl").policy
    (engine,) = policy.sparse_engines.values()
    inputs = torch.randn(6, 4)
    for _ in range(3):
        before = policy.q_net_target(inputs)
        old = [dense(layer) for layer in linears(policy.q_net_target)]
        for _ in range(10):
            step(policy)
        assert torch.equal(policy.q_net_target(inputs), before)
        polyak_update(policy.q_net.parameters(), policy.q_net_target.parameters(), tau)
        step(policy, only_look=True)
        online = [tensor.active() for tensor in engine.tensors]
        new = [dense(layer) for layer in linears(policy.q_net)]
        policy.q_net_target(inputs)
        for layer, was, now, mask in zip(
            linears(policy.q_net_target), old, new, online, strict=True
        ):
            expected = ((1 - tau) * was + tau * now) * mask
            torch.testing.assert_close(dense(layer), expected, rtol=1e-5, atol=1e-6)
            assert not dense(layer)[~mask].any()
    assert engine.updates == 3


def linears(net):
    return [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)]


def dense(layer):
    if isinstance(layer, CondensedLinear):
        return layer.dense_weight()
    return (layer.weight * layer.weight_mask).detach().clone()


def step(policy, only_look=False):
    (engine,) = policy.sparse_engines.values()
    engine.optimizer.zero_grad()
    generator = torch.Generator().manual_seed(engine.steps)
    policy.q_net(torch.randn(8, 4, generator=generator)).pow(3).mean().backward()
    if not only_look:
        engine.optimizer.step()


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_a_copy_that_is_saved_between_its_update_and_its_use_is_whole(backend, tmp_path):
    model = build(DQN, backend, "rigl")
    for _ in range(10):
        step(model.policy)
    polyak_update(model.q_net.parameters(), model.q_net_target.parameters(), 1.0)
    model.save(tmp_path / "model")
    loaded = DQN.load(tmp_path / "model", device="cpu")
    inputs = torch.randn(6, 4)
    assert torch.equal(loaded.q_net_target(inputs), model.q_net(inputs))


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("algorithm", [PPO, DQN, SAC, TD3])
def test_a_run_that_is_resumed_equals_one_that_was_not_interrupted(algorithm, backend, tmp_path):
    first, then = (128, 64) if algorithm is PPO else (64, 32)
    model = build(algorithm, backend).learn(first)
    model.save(tmp_path / "model")
    resumed = algorithm.load(tmp_path / "model", env=gym.make(SMALL[algorithm][0]), device="cpu")
    if algorithm is not PPO:
        model.save_replay_buffer(tmp_path / "buffer")
        resumed.load_replay_buffer(tmp_path / "buffer")
    for run in (model, resumed):
        run.set_random_seed(11)
        run._last_obs = None
        run.learn(then, reset_num_timesteps=False)
    mine, theirs = model.get_parameters(), resumed.get_parameters()
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert same(mine[name], theirs[name]), name
    assert all(engine.updates >= 2 for engine in resumed.policy.sparse_engines.values())


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("rule", ["density", "union"])
def test_rules_with_a_topology_of_their_own_refuse_condensed_layers(rule):
    with pytest.raises(ValueError, match=rf"^target='{rule}': .* needs backend masked or auto"):
        build(SAC, "condensed", sparse=dict(target=rule))


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_condensed_policies_are_logged_like_masked_ones(algorithm):
    logged = []
    for backend in ("masked", "condensed"):
        model = build(algorithm, backend)
        model.set_logger(Unwritten(None, [object()]))
        model.learn(SMALL[algorithm][2], callback=[SparseCallback(), keep := Keep()])
        logged.append(keep.numbers)
    masked, condensed = logged
    assert masked.keys() == condensed.keys()
    assert "flops/train_ratio" in masked
    for key, value in masked.items():
        assert condensed[key] == pytest.approx(value, rel=1e-2), key


class Unwritten(Logger):
    """Has somewhere to write to, so that there is something to log, and never does."""

    def dump(self, step=0):
        pass


class Keep(BaseCallback):
    def _on_step(self):
        return True

    def _on_rollout_end(self):
        wanted = ("sparsity/", "dst/", "neurons/", "flops/", "params/", "rep/")
        found = self.model.logger.name_to_value
        self.numbers = {k: v for k, v in found.items() if k.startswith(wanted)}
