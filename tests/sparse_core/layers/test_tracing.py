"""Condensed networks that torch compiles, traces and exports compute what they compute here."""

from __future__ import annotations

import copy
import io
import logging
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from sparse_core import SparseConfig, condense, sparsify
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.condensed_conv import CondensedConv2d
from sparse_core.layers.embedding import CondensedEmbedding
from sparse_core.layers.sharing import Lent, Reused
from tests.sparse_core.networks import mlp
from tests.squares import squares

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{said}")  # of torch itself
    for said in (
        r"`torch.jit.\w+` is deprecated:DeprecationWarning",
        "You are using the legacy TorchScript-based ONNX export:DeprecationWarning",
        "The feature will be removed:DeprecationWarning",
        ".*LeafSpec:FutureWarning",
        "The .grad attribute of a Tensor that is not a leaf:UserWarning",
    )
]


def chain():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh())
    net.append(nn.LayerNorm(16)).append(nn.Linear(16, 3))
    sparsify(net, SparseConfig(method="srigl", sparsity=0.6, backend="condensed"))
    return net, [torch.randn(batch, 6) for batch in (3, 5)], CondensedLinear


def embedding():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(50, 16, padding_idx=3), nn.Flatten(), nn.Linear(48, 5))
    config = dict(method="set", sparsity=0.5, backend="condensed", embeddings=True, dense=())
    sparsify(net, SparseConfig(**config))
    return net, [torch.randint(0, 50, (batch, 3)) for batch in (3, 5)], CondensedEmbedding


def convolution():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 3, 2))
    sparsify(net, SparseConfig(method="static", sparsity=0.5))
    return condense(net), [torch.randn(batch, 2, 8, 8) for batch in (3, 5)], CondensedConv2d


def made(build, form, monkeypatch):
    monkeypatch.setattr("sparse_core.export.condense.conv_pays", lambda *facts: True)
    net, inputs, kind = build()
    net = condense(net) if form == "condense" else net.eval()
    assert any(type(layer) is kind for layer in net.modules())
    return net, inputs


def outputs(session_file, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(session_file.getvalue())
    (name,) = [one.name for one in session.get_inputs()]
    return torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def jit(net, x, other):
    file = io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.trace(net, x)), file)
    file.seek(0)
    return torch.jit.load(file)(other)


def legacy_onnx(net, x, other):
    pytest.importorskip("onnx")
    file, axes = io.BytesIO(), {"input": {0: "batch"}}
    how = dict(opset_version=17, input_names=["input"], dynamic_axes=axes, dynamo=False)
    torch.onnx.export(net, (x,), file, **how)
    return outputs(file, other)


def onnx(net, x, other):
    pytest.importorskip("onnxscript")
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.onnx.export(net, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    return outputs(io.BytesIO(program.model_proto.SerializeToString()), other)


def exported(net, x, other):
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    return torch.export.export(net, (x,), dynamic_shapes=shapes).module()(other)


def operations(net, x, other):
    return make_fx(net)(other)(other)


@pytest.mark.parametrize(
    ("way", "build", "form", "grad"),
    squares(
        [jit, legacy_onnx, onnx, exported, operations],
        [chain, embedding, convolution],
        ["trained", "condense"],
        [False, True],
    ),
)
def test_a_graph_computes_the_network(way, build, form, grad, monkeypatch):
    net, (x, other) = made(build, form, monkeypatch)
    expected = net(other)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(way(net, x, other), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net(other), expected, rtol=0, atol=0)


@pytest.mark.parametrize("was", ["copied", "pickled", "loaded", "new"])
def test_a_network_that_never_ran_can_be_exported(was):
    net, (x, other), _ = chain()
    net.eval()
    if was == "copied":
        net = copy.deepcopy(net)
    elif was == "pickled":
        net = pickle.loads(pickle.dumps(condense(net)))
    elif was == "loaded":
        state = net.state_dict()
        net = chain()[0].eval()
        net.load_state_dict({key: value.clone() for key, value in state.items()})
    program = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(program(x), net(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.jit.trace(net, x)(other), net(other), rtol=1e-5, atol=1e-5)


def test_a_trace_follows_the_weights_of_the_network():
    net, (x, other), _ = chain()
    traced = torch.jit.trace(net, x)
    with torch.no_grad():
        net[0].values.mul_(2)
    torch.testing.assert_close(traced(other), net(other), rtol=1e-5, atol=1e-5)
    traced(other).sum().backward()
    through_trace = net[0].values.grad.clone()
    net.zero_grad()
    net(other).sum().backward()
    torch.testing.assert_close(through_trace, net[0].values.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Reused, Lent])
def test_weights_of_earlier_tasks_are_in_the_graph(kind):
    net = mlp(6, 5)
    sparsify(net, SparseConfig(method="static", sparsity=0.5, backend="condensed", dense=()))
    layer = net[0]
    active = torch.from_numpy(layer.pattern.to_mask())
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(5, 6, generator=generator) < 0.5
    layer.weight_protected = chosen & active if kind is Reused else ~active & chosen
    layer.weight_lent = None if kind is Reused else layer.weight_protected.clone()
    layer.weight_frozen = torch.randn(5, 6, generator=generator)
    layer.weight_reserved = torch.tensor([True, False, False, True, False])
    layer.weight_given = torch.randn(5, generator=generator)
    layer.weight_live = ~layer.weight_reserved
    layer.derive()
    assert isinstance(layer.shared, kind)
    x, other = torch.randn(2, 4, 6, generator=generator)
    traced = torch.jit.trace(net, x)
    torch.testing.assert_close(traced(other), net(other), rtol=1e-5, atol=1e-5)
    gradients = []
    for one in (traced, net):
        net.zero_grad()
        one(other).pow(2).sum().backward()
        gradients.append([layer.values.grad.clone(), layer.bias.grad.clone()])
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("build", [chain, embedding])
def test_compiled_networks(build, backend, caplog):
    torch._dynamo.reset()
    net, inputs, _ = build()
    compiled = torch.compile(net, backend=backend)
    for x in (*inputs, inputs[0][:1]):
        results = []
        for one in (compiled, net):
            with torch.no_grad():
                repeated = [one(x) for _ in range(2)]
            q = x.clone().requires_grad_(x.is_floating_point())
            out = one(q)
            wanted = [*([q] if q.requires_grad else []), *net.parameters()]
            results.append([*repeated, out, *torch.autograd.grad(out.pow(2).sum(), wanted)])
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_many_compiled_layers_are_not_compiled_again_and_again(caplog):
    torch._dynamo.reset()
    net = nn.ModuleList(nn.Linear(6, 6) for _ in range(10))
    sparsify(net, SparseConfig(method="static", sparsity=0.5, backend="condensed", dense=()))

    def through(x):
        for layer in net:
            x = layer(x).sigmoid()
        return x

    x = torch.randn(4, 6)
    torch.testing.assert_close(torch.compile(through, backend="eager")(x), through(x))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_layer_takes_its_input_by_name():
    net, (x, _), _ = chain()
    assert torch.equal(net[0](input=x), net[0](x))


def test_what_counts_operations_sees_dense_ones():
    net, (x, _), _ = chain()
    with FlopCounterMode(display=False) as counter:
        net(x)
    assert counter.get_total_flops() == 2 * 3 * (6 * 16 + 16 * 16 + 16 * 3)


def test_a_convolution_describes_itself(monkeypatch):
    net, _ = made(convolution, "condense", monkeypatch)
    assert "2, 8, kernel_size=(3, 3), stride=(1, 1)" in repr(net)


def test_nothing_of_a_graph_is_kept_beyond_it():
    """What is derived while torch traces is as good as what is derived outside."""
    net, (x, other), _ = chain()
    net.eval()
    expected = net(other)
    torch.export.export(net, (x,))
    q = other.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(q).pow(2).sum(), q, create_graph=True)
    assert type(torch.autograd.grad(slope.sum(), q)[0]) is torch.Tensor
    np.testing.assert_array_equal(net(other).detach(), expected.detach())
