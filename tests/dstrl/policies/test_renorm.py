"""CrossQ's batch renormalisation: sb3-contrib's, but for its gradient at constant features."""

from __future__ import annotations

import copy

import pytest
import torch

contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")

from sb3_contrib.common.torch_layers import BatchRenorm1d  # noqa: E402

import dstrl  # noqa: E402
from dstrl.policies.renorm import ConstantSafeBatchRenorm1d, make_safe  # noqa: E402


def pair(warmup=1, features=5):
    """Sb3-contrib's layer and ours, with the same statistics behind them."""
    torch.manual_seed(0)
    theirs = BatchRenorm1d(features, warmup_steps=warmup)
    with torch.no_grad():
        theirs.scale.uniform_(0.5, 2)
        theirs.bias.normal_()
    for _ in range(3):
        theirs(torch.randn(16, features) * 3 + 1)
    ours = copy.deepcopy(theirs)
    make_safe(ours)
    assert type(ours) is ConstantSafeBatchRenorm1d
    return theirs, ours


def both(theirs, ours, batch):
    """Each layer's output and the gradients of input, scale and bias."""
    found = []
    for layer in (theirs, ours):
        x = batch.clone().requires_grad_()
        out = layer(x)
        torch.manual_seed(1)
        (out * torch.randn_like(out)).sum().backward()
        found.append([out.detach(), x.grad, layer.scale.grad, layer.bias.grad])
    return found


@pytest.mark.parametrize("warmup", [0, 100])
@pytest.mark.parametrize("shift", [0.0, 1e-3, 100.0])
def test_it_is_sb3_contribs_to_the_bit_where_features_vary(warmup, shift):
    theirs, ours = pair(warmup)
    batch = torch.randn(16, 5) * torch.tensor([1, 1e-3, 50, 1e-18, 1]) + shift
    batch[:, 3] = torch.randn(16) * 1e-18  # a variance that float32 can just hold
    for one, other in zip(*both(theirs, ours, batch), strict=True):
        assert torch.equal(one, other)
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name
    theirs.eval(), ours.eval()
    assert torch.equal(theirs(batch), ours(batch))


def test_a_constant_feature_has_the_gradient_of_its_batch_mean_alone():
    theirs, ours = pair()
    batch = torch.randn(16, 5)
    batch[:, [0, 2]] = torch.tensor([0.25, 0.0])  # which float32 averages without rounding
    (values, broken, *_), (same, gradient, *_) = both(theirs, ours, batch)
    assert torch.equal(values, same)
    assert broken[:, [0, 2]].isnan().all()
    assert torch.equal(gradient[:, [1, 3, 4]], broken[:, [1, 3, 4]])
    # of x - mean(x): what each sample asks for, less what the batch asks for on average
    torch.manual_seed(1)
    asked = ours.scale.detach() * torch.randn(16, 5) / ours.eps**0.5
    wanted = (asked - asked.mean(0))[:, [0, 2]]
    torch.testing.assert_close(gradient[:, [0, 2]], wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["actor", "critic"])
def test_no_layer_of_a_policy_is_left_out(kind):
    network = getattr(crossq().policy, kind)
    layers = [layer for layer in network.modules() if isinstance(layer, BatchRenorm1d)]
    assert len(layers) == {"actor": 3, "critic": 2 * 3}[kind]
    assert all(type(layer) is ConstantSafeBatchRenorm1d for layer in layers)


def crossq(net_arch=(32, 32), warmup=1, **sparse):
    dstrl.register()
    return contrib.CrossQ(
        "SparseMlpPolicy",
        "Pendulum-v1",
        learning_starts=20,
        batch_size=32,
        seed=0,
        device="cpu",
        policy_kwargs=dict(
            net_arch=list(net_arch), renorm_warmup_steps=warmup, sparse=sparse or None
        ),
    )


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("method", ["static", "rigl", "srigl"])
def test_neurons_without_inputs_do_no_harm_after_the_warm_up(method, backend):
    model = crossq(
        method=method, sparsity=0.9, update_every=5, ablation_threshold=0.9, backend=backend
    )
    assert (starved(model) == 0) == (method == "srigl")
    model.learn(80)
    assert starved(model) > 0
    for name, value in model.policy.state_dict().items():
        assert value.isfinite().all(), name


def starved(model):
    engines = model.policy.sparse_engines.values()
    masks = [tensor.active() for engine in engines for tensor in engine.tensors]
    return sum(int((~mask.any(1)).sum()) for mask in masks)


def test_the_gradient_that_growth_sees_reaches_neurons_without_inputs():
    """A neuron that RigL is to revive needs one: zero gradients would leave it dead for ever."""
    model = crossq(method="rigl", sparsity=0.9, backend="masked")
    actor = model.policy.actor
    linear = actor.latent_pi[1]
    with torch.no_grad():
        linear.weight_mask[0] = 0
        linear.bias[0] = 1.0
    actor.sparse_engine.tensors[0].tap.arm(True)
    actor.set_bn_training_mode(True)
    for _ in range(3):
        actor.zero_grad()
        mean, _, _ = actor.get_action_dist_params(torch.randn(16, 3))
        mean.square().sum().backward()
    seen = actor.sparse_engine.tensors[0].tap.gradient()
    assert seen.isfinite().all() and seen[0].abs().max() > 0


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_a_model_that_is_loaded_goes_on_as_one_that_is_not(backend, tmp_path):
    model = crossq(method="static", sparsity=0.9, backend=backend).learn(40)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = contrib.CrossQ.load(tmp_path / "model", env=model.get_env(), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    for run in (model, loaded):
        run.set_random_seed(3)
        run._last_obs = None
        run.learn(20, reset_num_timesteps=False)
    other = loaded.policy.state_dict()
    assert all(torch.equal(v, other[name]) for name, v in model.policy.state_dict().items())


def test_an_actor_alone_is_saved_and_loaded(tmp_path):
    actor = crossq(method="rigl", sparsity=0.8).learn(40).policy.actor
    actor.save(tmp_path / "actor")
    loaded = type(actor).load(tmp_path / "actor", device="cpu")
    assert any(type(layer) is ConstantSafeBatchRenorm1d for layer in loaded.modules())
    observation = torch.randn(7, 3)
    for one in (actor, loaded):
        one.set_training_mode(False)
    assert torch.equal(actor(observation, True), loaded(observation, True))
