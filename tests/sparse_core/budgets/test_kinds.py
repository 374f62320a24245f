"""Layers of classes derived from torch's, which compute as these do, become sparse as they are."""

from __future__ import annotations

import copy
import io
import pickle
from abc import ABC
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sparse_core import SparseConfig, condense, sparsify, to_torch_csr
from sparse_core.layers import MaskedConv2d, MaskedEmbedding, MaskedLinear, MaskedMultiheadAttention
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.condensed_attention import CondensedMultiheadAttention
from sparse_core.layers.embedding import CondensedEmbedding
from sparse_core.layers.kinds import own_class
from tests.sparse_core.networks import steps


class Named:
    """What a class may bring along."""

    title = "mine"

    def shout(self) -> str:
        return self.title.upper()


class Mine(Named, nn.Linear, ABC):
    """A linear layer with a method, a parameter and a buffer of its own."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__(n_in, n_out, bias)
        self.gain = nn.Parameter(torch.ones(3))
        self.register_buffer("count", torch.zeros(2))

    def reset_parameters(self) -> None:
        nn.init.orthogonal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        return f"mine, {super().extra_repr()}"


class Rounded(nn.Conv2d):
    """Computes through a method that `nn.Conv2d.forward` calls."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, weight.round(decimals=2), bias)


class Words(nn.Embedding):
    """A table of its own."""


class Attention(nn.MultiheadAttention):
    """Attention by another name."""


def twins(bias: bool = True) -> tuple[nn.Sequential, nn.Sequential]:
    """A network of own layers, and the same of torch's."""
    own = nn.Sequential(Mine(12, 16, bias), nn.ReLU(), Mine(16, 8, bias), nn.ReLU(), Mine(8, 4))
    plain = nn.Sequential(
        nn.Linear(12, 16, bias), nn.ReLU(), nn.Linear(16, 8, bias), nn.ReLU(), nn.Linear(8, 4)
    )
    plain.load_state_dict(own.state_dict(), strict=False)
    return own, plain


def trained(net: nn.Sequential, **fields: Any) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    sparsify(net, SparseConfig(**dict(sparsity=0.5, update_every=2) | fields), optimizer)
    steps(net, optimizer, 5)
    return net, optimizer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("method", ["rigl", "srigl", "set"])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_it_trains_to_the_bit_as_a_layer_of_torch(backend, method, bias):
    own, plain = (trained(net, method=method, backend=backend)[0] for net in twins(bias))
    state = own.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(state[name], value)
    x = torch.randn(3, 12)
    assert torch.equal(own(x), plain(x))
    form = MaskedLinear if backend == "masked" else CondensedLinear
    for layer in own[::2]:
        assert isinstance(layer, Mine) and isinstance(layer, form)
        assert layer.shout() == "MINE" and "mine, in_features=" in repr(layer)
        assert own_class(layer) is Mine
        assert torch.equal(layer.gain, torch.ones(3)) and torch.equal(layer.count, torch.zeros(2))


def pickled(net: Any) -> Any:
    return pickle.loads(pickle.dumps(net))


def saved(net: Any) -> Any:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copier", [copy.deepcopy, pickled, saved])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_a_copy_is_the_same_and_trains_on_the_same(backend, copier):
    net, optimizer = trained(twins()[0], method="rigl", backend=backend)
    twin, its = copier((net, optimizer))
    assert type(twin[0]) is type(net[0])
    for one, other in ((net, optimizer), (twin, its)):
        steps(one, other, 4, start=5)
    assert all(map(torch.equal, net.state_dict().values(), twin.state_dict().values()))
    assert twin.sparse_engine.updates == 4


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_its_state_loads_into_another(backend):
    net, _ = trained(twins()[0], method="rigl", backend=backend)
    twin = twins()[0]
    sparsify(twin, SparseConfig(sparsity=0.5, seed=1, backend=backend))
    twin.load_state_dict(net.state_dict())
    x = torch.randn(3, 12)
    assert torch.equal(net(x), twin(x))


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("form", [condense, to_torch_csr])
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_forms_for_inference_are_of_its_class_too(form, backend):
    net, _ = trained(twins()[0], method="srigl", backend=backend)
    small = form(net)
    x = torch.randn(3, 12)
    torch.testing.assert_close(small(x), net.eval()(x))
    assert all(layer.shout() == "MINE" for layer in small[::2])
    assert "count" in small[0]._buffers and "gain" in small[0]._parameters


def test_a_target_of_its_class_follows():
    net, target = twins()[0], twins()[0]
    engine = sparsify(net, SparseConfig(sparsity=0.5, update_every=2, backend="condensed"))
    engine.follow(target)
    optimizer = torch.optim.Adam(net.parameters())
    engine.attach(optimizer)
    steps(net, optimizer, 4)
    assert isinstance(target[0], Mine) and isinstance(target[0], CondensedLinear)
    assert torch.equal(target[0].columns, net[0].columns)


def test_back_to_masks():
    net, optimizer = trained(twins()[0], method="rigl", backend="condensed")
    x = torch.randn(3, 12)
    before = net(x)
    net.sparse_engine.use_masks()
    torch.testing.assert_close(net(x), before)
    steps(net, optimizer, 4, start=5)
    assert isinstance(net[0], Mine) and isinstance(net[0], MaskedLinear)
    assert "count" in net[0]._buffers and "gain" in net[0]._parameters


def test_a_method_that_the_forward_pass_calls_gets_the_masked_weight():
    layer = Rounded(1, 4, 3)
    engine = sparsify(layer, SparseConfig(method="static", sparsity=0.5))
    x = torch.randn(2, 1, 6, 6)
    weight = (layer.weight * engine.tensors[0].mask).round(decimals=2)
    assert torch.equal(layer(x), nn.functional.conv2d(x, weight, layer.bias))
    assert isinstance(layer, Rounded) and isinstance(layer, MaskedConv2d)
    dense = condense(layer)
    assert type(dense) is Rounded and torch.equal(dense(x), layer.eval()(x))


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_an_embedding_of_its_own_class(backend):
    net = nn.Sequential(Words(9, 8), nn.Linear(8, 4))
    engine = sparsify(net, SparseConfig(sparsity=0.5, embeddings=True, backend=backend))
    assert len(engine.tensors) == 2
    form = MaskedEmbedding if backend == "masked" else CondensedEmbedding
    assert isinstance(net[0], Words) and isinstance(net[0], form)
    tokens = torch.tensor([3, 5, 3])
    assert torch.equal(pickled(net)(tokens), net(tokens))


def test_attention_of_its_own_class_and_its_output_projection():
    torch.manual_seed(0)
    attention = Attention(8, 2)
    twin = nn.MultiheadAttention(8, 2)
    twin.load_state_dict(attention.state_dict())
    for module in (attention, twin):
        sparsify(module, SparseConfig(method="static", sparsity=0.5))
    x = torch.randn(3, 2, 8)
    assert torch.equal(attention(x, x, x)[0], twin(x, x, x)[0])
    assert isinstance(attention, Attention) and isinstance(attention, MaskedMultiheadAttention)
    assert isinstance(attention.out_proj, NonDynamicallyQuantizableLinear)
    small = condense(attention)
    assert isinstance(small, Attention) and isinstance(small, CondensedMultiheadAttention)
    assert isinstance(small.out_proj, NonDynamicallyQuantizableLinear)
    torch.testing.assert_close(small(x, x, x)[0], attention.eval()(x, x, x)[0])


def test_a_layer_that_has_become_sparse_is_taken_once():
    net, _ = trained(twins()[0], method="static")
    with pytest.raises(ValueError, match="sparse already"):
        sparsify(net, SparseConfig())
