"""Files and settings that do not fit are refused in one line, and nothing is changed by that."""

from __future__ import annotations

import copy
import hashlib

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC, TD3

import dstrl
from dstrl.policies.actor_value import SparseActorCriticPolicy
from sparse_core.checks import InputError
from sparse_core.layers.state import Condensed

ENVS = {PPO: "CartPole-v1", DQN: "CartPole-v1", SAC: "Pendulum-v1"}


def build(algorithm, arch=(16, 16), **sparse):
    dstrl.register()
    sparse = dict(method="srigl", sparsity=0.8, seed=1) | sparse
    return algorithm(
        "SparseMlpPolicy",
        ENVS[algorithm],
        policy_kwargs=dict(sparse=sparse, net_arch=list(arch)),
        seed=0,
        device="cpu",
    )


def state(model):
    return copy.deepcopy(model.policy.state_dict())


def unchanged(model, before):
    now = model.policy.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[k], before[k]) for k in now)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("algorithm", [PPO, DQN, SAC])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            dict(sparsity=0.5),
            "saved with other sparse settings: actor.sparsity is 0.8 there and 0.5 here, "
            "critic.sparsity is 0.8 there and 0.5 here; build",
        ),
        (dict(actor_sparsity=0.5), "saved with other sparse settings: actor.sparsity is 0.8 there"),
        (dict(method="static"), "actor.method is 'srigl' there and 'static' here"),
        (dict(method="rigl", target="online"), "target is None there and 'online' here"),
        (dict(update_every=7), "actor.update_every is 100 there and 7 here"),
    ],
)
def test_other_settings_are_named_and_nothing_is_changed(
    algorithm, backend, other, message, tmp_path
):
    path = tmp_path / "model.zip"
    build(algorithm, backend=backend).save(path)
    model = build(algorithm, backend=backend, **other)
    before, file = state(model), digest(path)
    with pytest.raises(RuntimeError) as caught:
        model.set_parameters(str(path), device="cpu")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert unchanged(model, before)
    assert digest(path) == file
    given = dict(sparse=other, net_arch=[16, 16])
    with pytest.raises(ValueError, match="policy kwargs do not equal the stored policy kwargs"):
        algorithm.load(path, policy_kwargs=given, device="cpu")


def test_long_settings_are_compared_whole_and_the_first_differences_named():
    """Twenty-four named layers are more text than fits into a kilobyte."""
    names = [f"{part}.{i}" for part in ("mlp_extractor.policy_net", "*value_net") for i in (0, 2)]
    layers = {f"{name}*{'?' * i}": 0.5 + 0.01 * i for name in names for i in range(6)}

    def policy(layers, **fields):
        return build(PPO, method="set", layer_sparsity=tuple(layers.items()), **fields)

    saved = state(policy(layers))
    assert len(saved["sparse_settings"]) > 1024
    policy(layers).policy.load_state_dict(saved)
    last = [*layers][-1]
    cases = (
        (policy(layers | {last: 0.9}), f"actor.layer_sparsity[{last!r}] is 0.55 there and 0.9"),
        (policy(layers, update_every=500), "actor.update_every is 100 there and 500 here"),
        (policy(dict(reversed(layers.items()))), "are in another order"),
    )
    for model, message in cases:
        with pytest.raises(RuntimeError) as caught:
            model.policy.load_state_dict(saved)
        assert message in str(caught.value) and len(str(caught.value)) < 500
    several = policy({n: 0.4 for n in layers})
    with pytest.raises(RuntimeError, match=r"here, and 45 more; build the policy"):
        several.policy.load_state_dict(saved)


def test_a_new_model_with_the_same_settings_takes_them_over(tmp_path):
    old, new = build(SAC, sparsity=0.5), build(SAC, sparsity=0.5, seed=9, horizon=100)
    old.save(tmp_path / "model.zip")
    new.set_parameters(str(tmp_path / "model.zip"), device="cpu")
    assert unchanged(new, state(old))


@pytest.mark.parametrize(("there", "here"), [("masked", "condensed"), ("condensed", "masked")])
def test_another_backend_is_named_and_nothing_is_changed(there, here):
    saved, model = state(build(SAC, backend=there)), build(SAC, backend=here)
    before = state(model)
    with pytest.raises(RuntimeError) as caught:
        model.policy.load_state_dict(saved)
    assert str(caught.value).startswith(
        f"layer 'actor.latent_pi.0' was saved {there} and is {here} here: build the policy "
        "with the same `backend`"
    )
    assert unchanged(model, before)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_a_state_of_another_shape_changes_nothing(backend):
    saved, model = state(build(SAC, arch=(16, 8), backend=backend)), build(SAC, backend=backend)
    before = state(model)
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.policy.load_state_dict(saved)
    assert unchanged(model, before)


def test_a_state_that_is_no_topology_changes_nothing():
    model = build(SAC, backend="condensed")
    before = state(model)
    spoilt = before | {"critic.qf0.2.columns": before["critic.qf0.2.columns"] * 0 + 99}
    with pytest.raises(RuntimeError, match="column 99, allowed are 0 to 15"):
        model.policy.load_state_dict(spoilt)
    assert unchanged(model, before)


def for_actions(count, backend, **sparse):
    spaces = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(count)
    settings = dict(method="static", sparsity=0.8, backend=backend) | sparse
    return SparseActorCriticPolicy(*spaces, lambda _: 1e-3, net_arch=[32, 32], sparse=settings)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_the_trunk_of_a_task_with_other_actions_needs_the_same_budgets(backend):
    def trunk(policy):
        state = policy.state_dict().items()
        return {key: value for key, value in state if not key.startswith("action_net")}

    two, five = for_actions(2, backend), for_actions(5, backend)
    before = copy.deepcopy(five.state_dict())
    with pytest.raises(InputError) as caught:
        five.load_state_dict(trunk(two), strict=False)
    message = str(caught.value)
    first, second = (p.sparse_engines["policy"].tensors[0].count() for p in (two, five))
    assert first != second
    assert f"layer 'mlp_extractor.policy_net.0.weight': the state has {first} active" in message
    assert f"this network has {second}: nothing was loaded" in message
    assert "distribution='uniform'" in message and "dense=('output',)" in message
    assert all(torch.equal(five.state_dict()[key], value) for key, value in before.items())
    for ways in (dict(dense=("output",)), dict(layer_sparsity=(("*", 0.8),))):
        two, five = for_actions(2, backend, **ways), for_actions(5, backend, **ways)
        five.load_state_dict(trunk(two), strict=False)
        tensors = five.sparse_engines["policy"].tensors
        assert [tensor.count() for tensor in tensors] == [tensor.budget for tensor in tensors]


@pytest.mark.parametrize("part", [0.2, 0.6, 0.99])
@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_a_truncated_file_is_refused_and_nothing_is_changed(algorithm, part, tmp_path):
    model = build(algorithm)
    path = tmp_path / "model.zip"
    model.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    before, file = state(model), digest(path)
    # A torch file inside may be whole and is taken for the archive then, which lacks everything.
    with pytest.raises((ValueError, AssertionError), match=r"wasn't a zip-file|No data found"):
        algorithm.load(path, device="cpu")
    with pytest.raises(ValueError, match=r"wasn't a zip-file|parameters do not match") as caught:
        model.set_parameters(str(path), device="cpu")
    assert "\n" not in str(caught.value)
    assert unchanged(model, before)
    assert digest(path) == file


@pytest.mark.parametrize("key", ["sparsty", "batch"])
def test_bad_settings_are_refused(key):
    with pytest.raises(ValueError, match=rf"{key}.*(unknown key|must be an integer)"):
        build(SAC, **{key: 0})


@pytest.mark.parametrize(
    ("algorithm", "policy", "missing"),
    [
        (SAC, "SparseActorCriticPolicy", "actor"),
        (TD3, "SparseActorCriticPolicy", "actor"),
        (TD3, "SparseSACPolicy", "actor_target"),
        (DQN, "SparseActorCriticPolicy", "q_net"),
        (DQN, "SparseTD3Policy", "q_net"),
    ],
)
def test_a_policy_of_another_algorithm_is_refused_in_one_line(algorithm, policy, missing):
    env = "CartPole-v1" if algorithm is DQN else "Pendulum-v1"
    with pytest.raises(
        InputError, match=rf"^policy={policy}: has no '{missing}', needed by .*; give [^\n]*$"
    ):
        algorithm(getattr(dstrl, policy), env, device="cpu")


def test_what_a_policy_has_not_is_still_no_attribute():
    policy = build(PPO).policy
    assert not hasattr(policy, "actor") and not hasattr(policy, "nothing")
    with pytest.raises(AttributeError, match="object has no attribute 'nothing'"):
        policy.nothing  # noqa: B018


@pytest.mark.parametrize("condensed_there", [False, True])
def test_auto_reads_what_another_machine_saved(condensed_there, tmp_path, monkeypatch):
    """A model of a machine where other layers are condensed loads, and trains on as there."""

    def machine(condenses):
        monkeypatch.setattr(
            "sparse_core.weights.condensing.fastest_acting",
            lambda paths, batch, acts: [
                [condenses and layer.density is not None for layer in path] for path in paths
            ],
        )

    machine(condensed_there)
    there = build(SAC, backend="auto", update_every=4)
    there.learning_starts = 5
    there.learn(16)
    there.save(tmp_path / "model.zip")
    machine(not condensed_there)
    here = SAC.load(tmp_path / "model.zip")
    here.replay_buffer, here._logger = there.replay_buffer, there.logger
    kinds = [
        isinstance(tensor.layer, Condensed)
        for model in (there, here)
        for engine in model.policy.sparse_engines.values()
        for tensor in engine.tensors
    ]
    middle = len(kinds) // 2
    assert kinds == [condensed_there] * middle + [not condensed_there] * middle
    for model in (there, here):
        np.random.seed(3)
        torch.manual_seed(3)
        model.train(3, batch_size=8)
    for name, engine in there.policy.sparse_engines.items():
        twin = here.policy.sparse_engines[name]
        assert engine.steps == twin.steps and engine.updates == twin.updates
        for one, two in zip(engine.tensors, twin.tensors, strict=True):
            assert torch.equal(one.active(), two.active())
            torch.testing.assert_close(one.values(), two.values(), rtol=1e-4, atol=1e-6)
