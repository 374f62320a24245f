"""Known faults of published implementations: optimizer states, schedules, kinds of models."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sparse_core import SparseConfig, sparsify
from tests.sparse_core.networks import built, mlp, moments, steps, train

# State of the optimizer ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"])
@pytest.mark.parametrize("method", ["rigl", "srigl", "set"])
def test_every_moment_of_an_inactive_weight_is_zero(make, method):
    """Masking `momentum_buffer` only leaves AdamW's exp_avg at inactive weights."""
    torch.manual_seed(0)
    net = mlp(12, 16, 16, 4)
    extra = dict(momentum=0.9) if make in ("SGD", "RMSprop") else {}
    optimizer = getattr(torch.optim, make)(net.parameters(), lr=1e-2, **extra)
    engine = sparsify(net, SparseConfig(method=method, sparsity=0.8, update_every=2), optimizer)
    steps(net, optimizer, 7)
    for tensor in engine.tensors:
        found = moments(optimizer, tensor)
        assert found and not any(m[tensor.mask == 0].any() for m in found)
        assert any(m[tensor.mask != 0].any() for m in found)


def test_moments_of_surviving_weights_stay_in_their_places():
    """Stored slots that are sorted again, but not their moments, misalign momentum."""
    net, optimizer, engine = built(dict(method="rigl", sparsity=0.7, update_every=100), lr=1e-2)
    train(net, optimizer, range(5))
    before = [(t.active(), [m.clone() for m in moments(optimizer, t)]) for t in engine.tensors]
    for tensor in engine.tensors:
        tensor.tap.arm(True)
        tensor.tap.value = torch.randn_like(tensor.weight)
    engine.update()
    for tensor, (was, old) in zip(engine.tensors, before, strict=True):
        stays = (was & tensor.active()).reshape(tensor.weight.shape)
        assert not torch.equal(was, tensor.active())
        for m, o in zip(moments(optimizer, tensor), old, strict=True):
            assert torch.equal(m[stays], o[stays])
            assert not m[~stays].any()


def test_grown_weights_start_at_zero_and_do_not_revive_old_values():
    net, optimizer, engine = built(dict(method="rigl", sparsity=0.5, update_every=3), lr=0.05)
    grown = []
    engine.observers.append(
        lambda _, deltas: grown.extend(
            float(t.values().reshape(-1)[deltas[t.name].grown].abs().sum()) for t in engine.tensors
        )
    )
    with torch.no_grad():
        for tensor in engine.tensors:
            tensor.weight.add_(1 - tensor.mask)
    for tensor in engine.tensors:
        tensor.start(tensor.active())
    train(net, optimizer, range(9))
    assert len(grown) == 9 and not any(grown)


# Schedule -----------------------------------------------------------------------------------------


def test_the_first_update_is_not_at_step_zero_and_none_is_at_the_end():
    net, optimizer, engine = built(
        dict(method="set", sparsity=0.6, update_every=5, horizon=20, stop_at=0.75)
    )
    when = []
    engine.observers.append(lambda moment, _: when.append(moment.step))
    steps(net, optimizer, 20)
    assert when == [5, 10]


def test_a_skipped_step_moves_no_weight_and_the_topology_only():
    for method in ("rigl", "srigl", "set"):
        net, optimizer, engine = built(
            dict(method=method, sparsity=0.6, update_every=3, skip_step=True)
        )
        steps(net, optimizer, 2)
        before, masks = (
            [t.values().clone() for t in engine.tensors],
            [t.active() for t in engine.tensors],
        )
        bias = net[0].bias.detach().clone()
        steps(net, optimizer, 1, start=2)
        assert engine.steps == 3 and engine.updates == 1 and torch.equal(bias, net[0].bias)
        for tensor, old, mask in zip(engine.tensors, before, masks, strict=True):
            assert not torch.equal(mask, tensor.active())
            stays = mask & tensor.active()
            assert torch.equal(tensor.values()[stays], old[stays])
        steps(net, optimizer, 1, start=3)
        assert not torch.equal(bias, net[0].bias)


# Latent weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
])  # fmt: skip
def test_weights_that_topkast_does_not_train_keep_their_bits(make):
    """Momentum from the time when they were trained, and decay, would go on moving them."""
    torch.manual_seed(0)
    net = mlp(12, 16, 4)
    optimizer = make(net.parameters())
    fields = dict(method="topkast", sparsity=0.8, backward_sparsity=0.6, update_every=3)
    engine = sparsify(net, SparseConfig(**fields), optimizer)
    steps(net, optimizer, 6)
    outside = [t.companion("backward") == 0 for t in engine.tensors]
    before = [t.weight.detach().clone() for t in engine.tensors]
    steps(net, optimizer, 2, start=6)
    for tensor, where, old in zip(engine.tensors, outside, before, strict=True):
        assert bool(where.any()) and torch.equal(tensor.weight[where], old[where])
        assert not torch.equal(tensor.weight[~where], old[~where])


@pytest.mark.parametrize("method", ["topkast", "sr_ste"])
def test_transformers_apply_masks_in_evaluation_too(method):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    net = nn.TransformerEncoder(layer, 2)
    fields = dict(method=method, sparsity=0.5, structure="2:4" if method == "sr_ste" else None)
    sparsify(net, SparseConfig(**fields))
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with_grad = net(x, src_key_padding_mask=padding).detach()
    net.eval()
    with torch.no_grad():
        evaluated = net(x, src_key_padding_mask=padding)
    torch.testing.assert_close(evaluated[~padding], with_grad[~padding])


def test_what_was_active_first_counts_as_seen():
    for method in ("topkast", "sr_ste", "rigl"):
        net = mlp(12, 16, 4)
        structure = "1:4" if method == "sr_ste" else None
        config = SparseConfig(method=method, structure=structure, sparsity=0.75)
        for tensor in sparsify(net, config).tensors:
            assert torch.equal(tensor.seen(), tensor.active())


# Whatever a model is made of ----------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(self.shared(x).relu()).relu())


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_are_tapped_in_full(reentrant):
    values = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        net = Twice()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        engine = sparsify(net, SparseConfig(method="rigl", sparsity=0.5, update_every=1), optimizer)
        x = torch.randn(4, 8, requires_grad=True)
        if checkpointed:
            out = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=reentrant)
        else:
            out = net(x)
        out.pow(2).sum().backward()
        values.append([t.tap.value for t in engine.tensors])
    for plain, ours in zip(*values, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the compiler itself
def test_a_compiled_network_trains_the_same():
    results = []
    for compiled in (False, True):
        net, optimizer, engine = built(dict(method="rigl", sparsity=0.6, update_every=3))
        steps(torch.compile(net, backend="eager") if compiled else net, optimizer, 7)
        assert engine.updates == 2
        results.append([v for k, v in net.state_dict().items()])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["srigl", "snfs", "mest", "gse"])
def test_a_network_may_change_its_precision(dtype, method):
    net, optimizer, engine = built(dict(method=method, sparsity=0.6, update_every=2), lr=1e-3)
    steps(net, optimizer, 3)
    before = [t.count() for t in engine.tensors]
    net.to(dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    engine.attach(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        (net(torch.randn(4, 12, dtype=dtype)) - 0.5).pow(2).mean().backward()
        optimizer.step()
    assert engine.steps == 6 and engine.updates == 3
    assert sum(t.count() for t in engine.tensors) <= sum(before)
    assert all(t.weight.dtype == dtype and not t.weight[t.mask == 0].any() for t in engine.tensors)


def test_detached_taps_watch_nothing():
    net, _, engine = built(dict(method="rigl", update_every=1))
    assert engine.tensors[0].tap.armed
    engine.detach()
    net(torch.randn(2, 12)).sum().backward()
    assert engine.tensors[0].tap.value is None and not math.isnan(engine.sparsity)
