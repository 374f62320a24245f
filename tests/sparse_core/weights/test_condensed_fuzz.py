"""Condensed layers against dense computation, on anything; and what they hold in memory."""

from concurrent.futures import ThreadPoolExecutor

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import CondensedLinear, become_condensed
from sparse_core.layers.dense import become_dense
from sparse_core.weights.delta import Delta
from tests.sparse_core.networks import mlp

SHAPES = st.tuples(
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(0, 70),
    st.sampled_from((1, 2, 4, 8)),
    st.sampled_from((0.0, 0.1, 0.5, 1.0)),
    st.booleans(),
    st.integers(0, 2**31),
)


def twins(n_in, n_out, group, density, bias, seed, dtype=torch.float32):
    """A condensed layer and the dense one that it stands for, some neurons ablated."""
    torch.manual_seed(seed)
    dense = nn.Linear(n_in, n_out, bias=bias, dtype=dtype)
    mask = torch.rand(-(-n_out // group), n_in) < density
    mask[torch.rand(len(mask)) < 0.2] = False
    mask = mask.repeat_interleave(group, 0)[:n_out]
    with torch.no_grad():
        dense.weight.mul_(mask)
    layer = nn.Linear(n_in, n_out, bias=bias, dtype=dtype)
    layer.load_state_dict(dense.state_dict())
    become_condensed(layer, mask, group=group, capacity=int(mask.sum()) + seed % 17)
    return layer, dense, mask


@given(SHAPES, st.sampled_from((torch.float32, torch.float64)))
def test_any_layer_computes_what_the_dense_one_does(shape, dtype):
    n_in, n_out, batch, group, density, bias, seed = shape
    layer, dense, mask = twins(n_in, n_out, group, density, bias, seed, dtype)
    x = torch.randn(batch, n_in, dtype=dtype)
    dy = torch.randn(batch, n_out, dtype=dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = layer(ours), dense(theirs)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(out, expected, **close)
    out.backward(dy)
    expected.backward(dy)
    torch.testing.assert_close(ours.grad, theirs.grad, **close)
    used = layer.pattern.expand(layer.values.grad.numpy())
    torch.testing.assert_close(torch.from_numpy(used), dense.weight.grad * mask, **close)
    assert not layer.values.grad[layer.pattern.size :].any()
    if bias:
        torch.testing.assert_close(layer.bias.grad, dense.bias.grad, **close)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, **close)
        assert torch.equal(layer(x), layer(x))


@given(SHAPES)
def test_condensing_and_back_changes_no_bit(shape):
    n_in, n_out, _, group, density, bias, seed = shape
    layer, dense, mask = twins(n_in, n_out, group, density, bias, seed)
    assert torch.equal(layer.mask(), mask)
    become_dense(layer)
    assert torch.equal(layer.weight, dense.weight)


@given(st.integers(3, 70), st.sampled_from((1, 2, 4, 8)), st.integers(0, 2**31))
def test_any_chain_computes_what_the_dense_one_does(batch, group, seed):
    made = [twins(a, b, group, 0.5, True, seed + a) for a, b in ((9, 17), (17, 30), (30, 5))]
    chain = CondensedSequential(made[0][0], nn.ReLU(), made[1][0], nn.Tanh(), made[2][0])
    dense = nn.Sequential(made[0][1], nn.ReLU(), made[1][1], nn.Tanh(), made[2][1])
    x = torch.randn(batch, 9)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    chain(ours).square().sum().backward()
    dense(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_one_layer_in_several_python_threads():
    layer, dense, _ = twins(60, 50, 2, 0.3, True, 0)
    inputs = [torch.randn(batch, 60) for batch in (1, 2, 7, 33, 64, 200) * 4]

    def both(x):
        mine = x.clone().requires_grad_()
        out = layer(mine)
        (gradient,) = torch.autograd.grad(out.square().sum(), mine)
        with torch.no_grad():
            return layer(x), gradient

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(both, inputs))
    for x, (out, gradient) in zip(inputs, results, strict=True):
        theirs = x.clone().requires_grad_()
        expected = dense(theirs)
        expected.square().sum().backward()
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradient, theirs.grad, rtol=1e-4, atol=1e-4)


def trained_bytes(net, optimizer):
    """Bytes of parameters, gradients, optimizer state, and of the indices of condensed layers."""
    net(torch.randn(4, 1024)).square().sum().backward()
    optimizer.step()
    held = [t for p in net.parameters() for t in (p, p.grad)]
    held += [t for s in optimizer.state.values() for t in s.values() if t.dim()]
    layers = [m for m in net if isinstance(m, CondensedLinear)]
    held += [t for layer in layers for t in layer.buffers()]
    return sum(t.nbytes for t in held) + sum(layer.pattern.nbytes for layer in layers)


def test_a_condensed_network_holds_at_most_a_sixth_of_the_dense_one():
    sizes = {}
    for method in ("dense", "srigl", "rigl"):
        net = mlp(1024, 1024, 1024)
        optimizer = torch.optim.Adam(net.parameters())
        sparsity = 0.0 if method == "dense" else 0.9
        backend = "masked" if method == "dense" else "condensed"
        sparsify(net, SparseConfig(method=method, sparsity=sparsity, backend=backend), optimizer)
        sizes[method] = trained_bytes(net, optimizer)
    assert sizes["srigl"] <= 0.18 * sizes["dense"]
    assert sizes["rigl"] <= 0.18 * sizes["dense"]


def test_what_was_ever_active_can_be_asked_for_by_rows():
    engine = sparsify(nn.Linear(3, 5), SparseConfig("set", sparsity=0.5, backend="condensed"))
    tensor = engine.tensors[0]
    mask = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 1]]).bool()
    tensor.remember(mask)
    for first in range(5):
        for last in range(first + 1, 6):
            assert torch.equal(tensor.seen(slice(first, last)), mask[first:last])


def test_gradients_stay_with_their_weights_when_the_topology_moves():
    engine = sparsify(nn.Linear(3, 5), SparseConfig("set", sparsity=0.5, backend="condensed"))
    tensor = engine.tensors[0]
    before = tensor.active()
    after = before.clone()
    after[tuple(before.nonzero()[0])] = False
    after[tuple((~before).nonzero()[0])] = True
    tensor.weight.grad = torch.arange(1.0, tensor.weight.numel() + 1)
    gradients = torch.from_numpy(tensor.layer.pattern.expand(tensor.weight.grad.numpy()))
    tensor.apply(Delta.between(before, after))
    found = torch.from_numpy(tensor.layer.pattern.expand(tensor.weight.grad.numpy()))
    assert torch.equal(found, gradients * after)
