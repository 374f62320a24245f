"""sb3-contrib's algorithms with sparse policies; left out where it is not installed."""

from __future__ import annotations

import pytest
import torch

import dstrl
from dstrl.callbacks import SparseCallback

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
}


def build(name, **sparse):
    dstrl.register()
    policy, env, arguments = CASES[name]
    method = "set" if name == "TRPO" else "rigl"
    sparse = dict(method=method, sparsity=0.75, update_every=3) | sparse
    kwargs = dict(sparse=sparse, net_arch=[16, 16])
    if name == "RecurrentPPO":
        kwargs |= dict(lstm_hidden_size=8)
    algorithm = getattr(contrib, name)
    return algorithm(policy, env, policy_kwargs=kwargs, seed=1, device="cpu", **arguments)


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
    theirs = type(ours)(plain, env, policy_kwargs=kwargs, seed=1, device="cpu", **arguments)
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
