"""sb3-contrib's algorithms with sparse policies; left out where it is not installed."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv

import dstrl
from dstrl.watching.callbacks import SparseCallback

contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")

CASES = {
    "TQC": ("SparseMlpPolicy", "Pendulum-v1", dict(learning_starts=8, batch_size=4)),
    "QRDQN": (
        "SparseMlpPolicy",
        "CartPole-v1",
        dict(learning_starts=8, batch_size=4, train_freq=1),
    ),
    "CrossQ": ("SparseMlpPolicy", "Pendulum-v1", dict(learning_starts=8, batch_size=4)),
    "TRPO": ("SparseMlpPolicy", "CartPole-v1", dict(n_steps=32, batch_size=16)),
    "RecurrentPPO": (
        "SparseMlpLstmPolicy",
        "CartPole-v1",
        dict(n_steps=32, batch_size=16, n_epochs=4),
    ),
    "MaskablePPO": ("SparseMlpPolicy", "masked", dict(n_steps=32, batch_size=16, n_epochs=4)),
}


def make_env(name):
    from sb3_contrib.common.envs import InvalidActionEnvDiscrete

    if name != "masked":
        return gym.make(name)
    env = InvalidActionEnvDiscrete(dim=12, n_invalid_actions=6)
    env.action_space.seed(0)
    return env


def build(name, **sparse):
    dstrl.register()
    policy, env, arguments = CASES[name]
    method = "set" if name == "TRPO" else "rigl"
    sparse = dict(method=method, sparsity=0.75, update_every=3) | sparse
    kwargs = dict(sparse=sparse, net_arch=[16, 16])
    if name == "RecurrentPPO":
        kwargs |= dict(lstm_hidden_size=8)
    algorithm = getattr(contrib, name)
    return algorithm(policy, make_env(env), policy_kwargs=kwargs, seed=1, device="cpu", **arguments)


@pytest.mark.parametrize("name", CASES)
def test_it_trains_within_its_budget_and_horizon(name):
    model = build(name).learn(64, callback=SparseCallback())
    for engine in model.policy.sparse_engines.values():
        assert engine.updates >= 2
        assert engine.horizon == engine.steps
        for tensor in engine.tensors:
            assert tensor.count() == tensor.budget
            # TRPO's conjugate gradients leave rounding errors where the mask is zero.
            outside = (tensor.weight.detach() * (1 - tensor.mask)).abs().max()
            assert outside == 0 or (name == "TRPO" and outside < 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_it_is_saved_and_loaded(name, tmp_path):
    model = build(name).learn(40)
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy")
    loaded = type(model).load(tmp_path / "model", device="cpu").policy.state_dict()
    if name != "RecurrentPPO":  # its own constructor parameters lack the size of the LSTM
        alone = type(model.policy).load(tmp_path / "policy", device="cpu").state_dict()
        assert all(torch.equal(loaded[key], alone[key]) for key in loaded)
    assert all(torch.equal(loaded[key], v) for key, v in model.policy.state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_dense_is_sb3_contribs_own_to_the_bit(name):
    ours = build(name, method="dense").learn(40)
    policy, env, arguments = CASES[name]
    kwargs = dict(net_arch=[16, 16])
    if name == "RecurrentPPO":
        kwargs |= dict(lstm_hidden_size=8)
    plain = policy.removeprefix("Sparse")
    theirs = type(ours)(
        plain, make_env(env), policy_kwargs=kwargs, seed=1, device="cpu", **arguments
    )
    mine = dict(ours.policy.named_parameters())
    for key, parameter in theirs.learn(40).policy.named_parameters():
        assert torch.equal(parameter, mine[key]), key


@pytest.mark.parametrize("method", ["rigl", "srigl"])
def test_trpos_actor_refuses_to_grow_by_gradients(method):
    with pytest.raises(
        ValueError, match=rf"^method='{method}': TRPO's actor has no gradients to move by"
    ):
        build("TRPO", method=method)
    model = build("TRPO", method=method, actor_method="set").learn(64)
    assert all(engine.updates >= 2 for engine in model.policy.sparse_engines.values())


def test_what_follows_an_lstm_is_no_input_layer():
    (engine,) = build("RecurrentPPO").policy.sparse_engines.values()
    assert [layer.role for layer in engine.layers()] == ["hidden"] * 4 + ["output"] * 2


@pytest.mark.parametrize("method", ["rigl", "srigl"])
def test_both_backends_of_maskable_ppo_visit_the_same_topologies(method):
    masked, condensed = (
        build("MaskablePPO", method=method, backend=backend).learn(96).policy
        for backend in ("masked", "condensed")
    )
    for name, engine in condensed.sparse_engines.items():
        assert engine.updates >= 3
        for one, other in zip(engine.tensors, masked.sparse_engines[name].tensors, strict=True):
            assert torch.equal(one.active(), other.active())
            torch.testing.assert_close(one.values(), other.values(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("condense", [False, True])
def test_an_invalid_action_is_never_chosen(condense):
    model = build("MaskablePPO").learn(32)
    policy = model.policy.condense() if condense else model.policy
    observation, _ = model.get_env().envs[0].reset()
    allowed = np.zeros(12, dtype=bool)
    allowed[[3, 7]] = True
    for deterministic in (False, True):
        for _ in range(20):
            action, _ = policy.predict(
                observation, deterministic=deterministic, action_masks=allowed
            )
            assert allowed[action]


@pytest.mark.parametrize("kind", ["Cnn", "MultiInput"])
def test_maskable_ppo_takes_images_and_dictionaries(kind):
    dstrl.register()
    env = (
        FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=True)
        if kind == "Cnn"
        else SimpleMultiObsEnv(channel_last=False)
    )
    env.action_masks = lambda: [True] * env.action_space.n
    model = contrib.MaskablePPO(
        f"Sparse{kind}Policy",
        env,
        n_steps=8,
        batch_size=8,
        n_epochs=2,
        policy_kwargs=dict(
            net_arch=[8],
            features_extractor_kwargs=dict(features_dim=16)
            if kind == "Cnn"
            else dict(cnn_output_dim=16),
            sparse=dict(sparsity=0.5, update_every=2, actor_sparsity=0.75),
        ),
        device="cpu",
    ).learn(16)
    engines = model.policy.sparse_engines
    assert set(engines) == {"actor", "critic"}
    assert all(engine.updates >= 1 for engine in engines.values())
    assert engines["actor"].sparsity == pytest.approx(0.75, abs=1e-3)
