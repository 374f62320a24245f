"""`auto` follows the policy's device, not what the machine has: condensed on the CPU, else masked.

The device `meta`, which has shapes and no numbers, stands in for a GPU where none is needed.
"""

from __future__ import annotations

import io

import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

import dstrl
from dstrl.policies.devices import leave_cpu
from dstrl.runs.build import build as build_run
from dstrl.runs.spec import RLSpec
from sparse_core.checks import InputError
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.state import Condensed

META, CUDA = torch.device("meta"), torch.device("cuda")
SHORT = dict(learning_starts=10, batch_size=16, buffer_size=400)
CASES = {
    PPO: ("CartPole-v1", dict(n_steps=64, batch_size=32, n_epochs=4)),
    A2C: ("CartPole-v1", dict(n_steps=2)),
    DQN: ("CartPole-v1", SHORT | dict(train_freq=1, target_update_interval=7)),
    SAC: ("Pendulum-v1", SHORT),
    TD3: ("Pendulum-v1", SHORT),
}
MANY = 20_000
"""Samples of a batch for which layers of 24 neurons are worth condensing."""


def build(algorithm, device="cpu", share=False, **sparse):
    dstrl.register()
    env, arguments = CASES[algorithm]
    sparse = dict(method="rigl", sparsity=0.8, update_every=10, batch=MANY) | sparse
    kwargs = {} if algorithm is DQN else dict(share_features_extractor=share)
    if algorithm is A2C:  # whose second moments begin with ones
        kwargs |= dict(optimizer_class=RMSpropTFLike, optimizer_kwargs=dict(eps=1e-5))
    return algorithm(
        "SparseMlpPolicy",
        env,
        policy_kwargs=dict(sparse=sparse, net_arch=[24, 24]) | kwargs,
        seed=5,
        device=device,
        **arguments,
    )


def condensed(module):
    return sum(isinstance(layer, Condensed) for layer in module.modules())


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def with_gpu(monkeypatch):
    """A machine that says that it has a GPU; policies that go there go to `meta`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    move = torch.nn.Module.to
    there = {"cuda": META, CUDA: META}
    monkeypatch.setattr(
        torch.nn.Module, "to", lambda self, device: move(self, there.get(device, device))
    )


@pytest.mark.parametrize("algorithm", CASES)
def test_a_policy_on_the_cpu_is_condensed_whatever_the_machine_has(algorithm, with_gpu):
    policy = build(algorithm).policy
    assert condensed(policy) >= 2
    assert policy.device.type == "cpu"


def test_a_run_is_the_same_with_and_without_a_gpu(monkeypatch):
    spec = RLSpec(algo="sac", env="Pendulum-v1", net_arch=(256, 256)).resolve()
    count = condensed(build_run(spec).policy)
    assert count == 14
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert condensed(build_run(spec).policy) == count


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("algorithm", [PPO, DQN, TD3])
def test_a_policy_on_a_gpu_is_masked(algorithm, device, with_gpu):
    policy = build(algorithm, device=device).policy
    assert policy.device == META
    assert condensed(policy) == 0
    assert not any(isinstance(module, CondensedSequential) for module in policy.modules())
    assert {engine.config.backend for engine in policy.sparse_engines.values()} == {"masked"}


def test_where_there_is_none_auto_is_the_cpu():
    assert condensed(build(SAC, device="auto").policy) > 0 or torch.cuda.is_available()


@pytest.mark.parametrize(
    ("algorithm", "method", "share"),
    [
        (PPO, "rigl", True),
        (PPO, "srigl", False),
        (A2C, "rigl", False),
        (DQN, "srigl", False),
        (SAC, "static", False),
        (SAC, "rigl", True),
        (TD3, "srigl", True),
        (TD3, "snfs", False),
    ],
)
def test_a_policy_that_leaves_the_cpu_is_the_one_that_was_built_with_masks(
    algorithm, method, share
):
    moved, masked = (
        build(algorithm, share=share, method=method, backend=backend)
        for backend in ("auto", "masked")
    )
    assert condensed(moved.policy) > 0 or method == "snfs"
    for model in (moved, masked):
        leave_cpu(model.policy, META)
    mine, theirs = moved.policy.state_dict(), masked.policy.state_dict()
    assert list(mine) == list(theirs)
    assert same(mine, theirs)
    for model in (moved, masked):
        model.set_random_seed(11)
        model.learn(96)
    assert same(moved.policy.state_dict(), masked.policy.state_dict())
    engines = moved.policy.sparse_engines.values()
    assert all(engine.updates >= (method != "static") for engine in engines)


@pytest.mark.parametrize("growth", ["gradient", "adam_momentum"])
@pytest.mark.parametrize("algorithm", CASES)
def test_training_goes_on_where_it_was(algorithm, growth):
    """Up to the order of summation: weights, topology, memories and the optimizer's moments."""
    stayed, moved = (
        build(algorithm, growth=growth, gradient_steps=4, seed=3).learn(90) for _ in range(2)
    )
    leave_cpu(moved.policy, META)
    for name, engine in moved.policy.sparse_engines.items():
        twin = stayed.policy.sparse_engines[name]
        for one, other in zip(engine.tensors, twin.tensors, strict=True):
            assert torch.equal(one.active(), other.active())
            assert torch.equal(one.values(), other.values())
            assert torch.equal(one.seen(), other.seen())
            state, before = (e.optimizer.state[t.weight] for e, t in ((engine, one), (twin, other)))
            assert state.keys() == before.keys()
            for key, value in state.items():
                if torch.is_tensor(value) and value.dim() and isinstance(other.layer, Condensed):
                    assert torch.equal(other.stored(value), before[key]), key
                    assert (value[~one.active()] == (algorithm is A2C)).all()
    for model in (stayed, moved):
        model.set_random_seed(11)
        model._last_obs = None
        model.learn(64, reset_num_timesteps=False)
    for name, engine in moved.policy.sparse_engines.items():
        for one, other in zip(
            engine.tensors, stayed.policy.sparse_engines[name].tensors, strict=True
        ):
            assert torch.equal(one.active(), other.active())
            torch.testing.assert_close(one.values(), other.values(), rtol=1e-3, atol=1e-4)


def test_a_copy_that_stands_still_does_so_on_both_sides():
    model = build(DQN, growth="momentum").learn(40)
    policy = model.policy
    inputs = torch.randn(6, 4)
    model.q_net.sparse_engine.update()
    before = policy.q_net_target(inputs)
    leave_cpu(policy, META)
    torch.testing.assert_close(policy.q_net_target(inputs), before, rtol=1e-5, atol=1e-6)
    follower = model.q_net.sparse_engine._followers[0]
    assert set(follower._before) == {
        name
        for name, copy in follower.copies.items()
        if not torch.equal(copy.active(), follower.online[name].active())
    }


def test_condensed_layers_that_were_asked_for_are_refused_elsewhere():
    policy = build(SAC, backend="condensed").policy
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    with pytest.raises(InputError, match=r"^backend='condensed': it is on meta, .*; use backend"):
        policy.to("meta")
    assert same(before, policy.state_dict())
    policy.to("cpu")
    assert condensed(policy)


def test_a_policy_that_was_masked_is_saved_as_such(tmp_path):
    policy = build(SAC, actor_sparsity=0.9).learn(40).policy
    leave_cpu(policy, META)
    policy.save(tmp_path / "policy")
    policy.actor.save(tmp_path / "actor")
    loaded = type(policy).load(tmp_path / "policy", device="cpu")
    assert same(policy.state_dict(), loaded.state_dict())
    actor = type(policy.actor).load(tmp_path / "actor", device="cpu")
    assert same(policy.actor.state_dict(), actor.state_dict())
    assert condensed(loaded) == condensed(actor) == 0


def test_an_actor_alone_is_masked_elsewhere_too(tmp_path):
    actor = build(TD3).policy.actor
    actor.save(tmp_path / "actor")
    loaded = type(actor).load(tmp_path / "actor", device="cpu")
    assert condensed(loaded) > 0
    assert condensed(loaded.to("meta")) == 0


def test_casts_and_copies_on_the_cpu_change_no_form():
    policy = build(PPO).policy
    count = condensed(policy)
    policy.to("cpu").share_memory()
    torch.save(policy, io.BytesIO())
    assert condensed(policy.double()) == count > 0


@pytest.mark.filterwarnings("ignore:You are trying to run")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("algorithm", CASES)
def test_policies_train_on_a_gpu(algorithm, tmp_path):
    model = build(algorithm, device="cuda").learn(96)
    assert condensed(model.policy) == 0
    assert all(engine.updates >= 2 for engine in model.policy.sparse_engines.values())
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", device="cuda")
    assert same(model.policy.state_dict(), loaded.policy.state_dict())
