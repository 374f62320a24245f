"""Layers that stay dense or masked though nobody asked for it are named, once, with the reason."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from sparse_core import SparseConfig, condense, sparsify
from sparse_core.budgets.selection import select
from sparse_core.left_dense import left_dense
from tests.sparse_core.networks import mlp


class Scaled(nn.Linear):
    """Computes in a way of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Own(nn.Module):
    """A module with a weight of its own, and what is no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4))
        self.positions = nn.Parameter(torch.ones(5, 4))
        self.log_std = nn.Parameter(torch.ones(6, 2))


class Attention(nn.MultiheadAttention):
    """Attends in a way of its own, and reads the weights of its projections."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


def replaced(layer: nn.Linear) -> nn.Linear:
    layer.forward = lambda x: x  # type: ignore[method-assign]
    return layer


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return weight_norm(layer)


def linear() -> nn.Linear:
    return nn.Linear(8, 8)


UNKNOWN = "its shape is unknown until it has run once, which is free on the meta device"
LEFT: dict[str, tuple[Any, str]] = {
    "lstm": (lambda: nn.LSTM(8, 8), "LSTM has no sparse form"),
    "gru": (lambda: nn.GRU(8, 8), "GRU has no sparse form"),
    "cell": (lambda: nn.LSTMCell(8, 8), "LSTMCell has no sparse form"),
    "rnn": (lambda: nn.RNN(8, 8), "RNN has no sparse form"),
    "up": (lambda: nn.ConvTranspose2d(8, 8, 3), "ConvTranspose2d has no sparse form"),
    "bilinear": (lambda: nn.Bilinear(8, 8, 8), "Bilinear has no sparse form"),
    "own": (Own, "Own has no sparse form"),
    "lazy": (lambda: nn.LazyLinear(8), UNKNOWN),
    "lazy conv": (lambda: nn.LazyConv2d(8, 3), UNKNOWN),
    "scaled": (lambda: Scaled(8, 8), "Scaled has a forward pass of its own"),
    "patched": (lambda: replaced(linear()), "its forward was replaced"),
    "weight norm": (
        lambda: parametrizations.weight_norm(linear()),
        "it is parametrized by _WeightNorm",
    ),
    "spectral norm": (
        lambda: parametrizations.spectral_norm(linear()),
        "it is parametrized by _SpectralNorm",
    ),
    "old weight norm": (
        lambda: old_weight_norm(linear()),
        "torch.nn.utils.weight_norm makes its weight",
    ),
    "old spectral norm": (
        lambda: spectral_norm(linear()),
        "torch.nn.utils.spectral_norm makes its weight",
    ),
    "pruned": (
        lambda: prune.l1_unstructured(linear(), "weight", amount=0.5),
        "torch.nn.utils.prune makes its weight",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize("backend", ["masked", "condensed", "auto"])
def test_a_layer_that_stays_dense_is_named_once_with_the_reason(name, backend):
    make, why = LEFT[name]
    net = nn.ModuleDict({"odd": make(), "plain": mlp(8, 16, 4)})
    keys = list(net["odd"].state_dict())
    with pytest.warns(UserWarning, match=r"Layers that stay dense: 'odd' \(") as told:
        engine = sparsify(net, SparseConfig(sparsity=0.5, backend=backend))
    assert len(told) == 1 and f"'odd' ({why}). Name them in dense=" in str(told[0].message)
    assert told[0].filename == __file__
    assert [tensor.name for tensor in engine.tensors] == ["plain.0.weight", "plain.2.weight"]
    assert list(net["odd"].state_dict()) == keys


def test_layers_of_one_reason_are_named_together():
    net = nn.ModuleDict({"a": nn.LSTM(8, 8), "b": nn.GRU(8, 8), "c": nn.LSTM(8, 8), "d": linear()})
    with pytest.warns(
        UserWarning, match=r"dense: 'a', 'c' \(LSTM has no sparse form\); 'b' \(GRU has"
    ):
        sparsify(net, SparseConfig(sparsity=0.5))


def test_what_the_configuration_keeps_dense_is_not_named():
    net = nn.ModuleDict({"memory": nn.LSTM(8, 8), "odd": Scaled(8, 8), "plain": mlp(8, 16, 4)})
    engine = sparsify(net, SparseConfig(sparsity=0.5, dense=("memory", "od*", "plain.0")))
    assert [tensor.name for tensor in engine.tensors] == ["plain.2.weight"]


def test_what_holds_no_weights_to_speak_of_is_not_named():
    normal = nn.LayerNorm((3, 8, 8))
    net = nn.Sequential(
        nn.Embedding(4, 8), nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), normal, nn.PReLU(), mlp(8, 16, 4)
    )
    net.register_parameter("positions", nn.Parameter(torch.ones(3, 8)))
    net.register_parameter("log_std", nn.Parameter(torch.ones(8, 2)))
    sparsify(net, SparseConfig(sparsity=0.5))
    block = nn.TransformerEncoderLayer(8, 2, 16)
    sparsify(block, SparseConfig(sparsity=0.5))


def test_method_dense_leaves_everything_as_it_is_without_a_word():
    net = nn.Sequential(Scaled(8, 8), linear())
    sparsify(net, SparseConfig(method="dense"))
    assert type(net[0]) is Scaled and type(net[1]) is nn.Linear


def test_bags_of_embeddings_are_named_where_embeddings_are_to_be_sparse():
    net = nn.Sequential(nn.EmbeddingBag(8, 8), mlp(8, 16, 4))
    with pytest.warns(UserWarning, match=r"'0' \(EmbeddingBag has no sparse form\)"):
        sparsify(net, SparseConfig(sparsity=0.5, embeddings=True))


def test_attention_of_another_class_keeps_its_output_projection_dense_too():
    """It reads that weight without calling the layer, so a mask there would not be seen."""
    net = nn.ModuleDict({"attention": Attention(8, 2), "plain": mlp(8, 16, 4)})
    x = torch.randn(3, 2, 8)
    before = net["attention"](x, x, x)[0]
    with pytest.warns(
        UserWarning, match=r"'attention.out_proj' \(Attention reads its weight without a call\)"
    ):
        engine = sparsify(net, SparseConfig(sparsity=0.5))
    assert [tensor.name for tensor in engine.tensors] == ["plain.0.weight", "plain.2.weight"]
    assert torch.equal(net["attention"](x, x, x)[0], before)


def test_a_lazy_layer_that_has_run_is_a_layer_like_any_other():
    net = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(4))
    net(torch.randn(2, 8))
    assert len(sparsify(net, SparseConfig(sparsity=0.5)).tensors) == 2


def test_a_network_with_nothing_to_select_says_what_there_is():
    with pytest.raises(ValueError, match=r"there are '0' \(LSTM has no sparse form\)"):
        sparsify(nn.Sequential(nn.LSTM(8, 8)), SparseConfig())
    with pytest.raises(ValueError, match=r"there are the module itself \(GRU has no sparse form\)"):
        sparsify(nn.GRU(8, 8), SparseConfig())


def test_a_sparsity_for_a_layer_that_has_no_sparse_form_is_refused():
    net = nn.ModuleDict({"memory": nn.LSTM(8, 8), "plain": linear()})
    with pytest.raises(ValueError, match=r"layer_sparsity='memory': 'memory' \(LSTM has no sparse"):
        sparsify(net, SparseConfig(layer_sparsity={"memory": 0.5}))
    assert not hasattr(net, "sparse_engine")


def test_tied_weights_are_named_where_they_were_selected():
    net = nn.ModuleDict({"first": linear(), "odd": Scaled(8, 8)})
    net["odd"].weight = net["first"].weight
    selected = select(net)
    assert [item.name for item in selected] == ["first.weight"]
    assert left_dense(net, selected, embeddings=False) == {}


# Backends -----------------------------------------------------------------------------------------


def conv_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(144, 64))


def test_a_layer_that_cannot_be_condensed_is_named_where_that_was_asked_for():
    match = (
        r"stay masked under backend='condensed': '0.weight' \(a depthwise convolution is as fast "
        r"with masks\). "
        "backend='auto'"
    )
    with pytest.warns(UserWarning, match=match) as told:
        sparsify(conv_net(), SparseConfig(sparsity=0.5, backend="condensed"))
    assert len(told) == 1
    for backend in ("masked", "auto"):
        sparsify(conv_net(), SparseConfig(sparsity=0.5, backend=backend))
    sparsify(conv_net(), SparseConfig(sparsity=0.5, backend="condensed", dense=("0",)))


def test_attention_in_half_precision_has_masks_only():
    block = nn.TransformerEncoderLayer(8, 2, 16).bfloat16()
    names = "linear1.weight", "linear2.weight", "self_attn.in_proj_weight"
    match = ".*".join([names[2], names[0], names[1], r"\(its dtype is torch.bfloat16"])
    with pytest.warns(UserWarning, match=match):
        sparsify(block, SparseConfig(sparsity=0.5, backend="condensed"))


def test_what_the_caller_keeps_masked_is_not_named():
    net = mlp(8, 16, 4)
    config = SparseConfig(sparsity=0.5, backend="condensed")
    sparsify(net, config, keep_masked=["0.weight"])
    assert hasattr(net[0], "weight_mask") and hasattr(net[2], "values")


def test_one_warning_has_both():
    net = nn.Sequential(*conv_net(), nn.LSTM(64, 8))
    match = r"Layers that stay dense: '3' .*\. Layers that stay masked under .* '0.weight'"
    with pytest.warns(UserWarning, match=match) as told:
        sparsify(net, SparseConfig(sparsity=0.5, backend="condensed"))
    assert len(told) == 1


# The whole network --------------------------------------------------------------------------------


def test_the_sparsity_of_the_whole_network_counts_what_stays_dense():
    """100 x 100 dense and 1000 sparse weights at 90 %: 900 of 11000 are inactive."""
    net = nn.Sequential(Scaled(100, 100), nn.ReLU(), nn.Linear(100, 10))
    with pytest.warns(UserWarning, match="stay dense"):
        engine = sparsify(net, SparseConfig(sparsity=0.9))
    assert engine.sparsity == pytest.approx(0.9)
    assert engine.network_sparsity == pytest.approx(900 / 11000)
    assert "achieved 0.900000, of the whole network 0.081818, " in repr(engine)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.filterwarnings("ignore:Layers that stay")
def test_which_matrices_make_a_network(backend):
    net = nn.ModuleDict({
        "plain": nn.Linear(8, 16),                                   # 128, half of it active
        "conv": nn.Conv2d(2, 4, 3),                                  # 72, half of it
        "memory": nn.LSTM(4, 3),                                     # 12 x 4 + 12 x 3 = 84
        "tokens": nn.Embedding(5, 4, padding_idx=0),                 # 4 x 4 = 16
        "norm": nn.LayerNorm((3, 4)),                                # none
        "batch": nn.BatchNorm1d(4),                                  # none
        "positions": nn.ParameterList([torch.zeros(6, 2)]),          # 12
        "normed": parametrizations.weight_norm(nn.Linear(4, 5)),     # 20
        "old": old_weight_norm(nn.Linear(4, 6)),                     # 24
        "spectral": parametrizations.spectral_norm(nn.Linear(4, 7)), # 28
    })  # fmt: skip
    config = SparseConfig(method="static", sparsity=0.5, distribution="uniform", backend=backend)
    engine = sparsify(net, config)
    assert engine.network_sparsity == pytest.approx(100 / 384)
    grown = sparsify(mlp(8, 8, 8), SparseConfig(method="wsn", sparsity=0.5))
    assert grown.network_sparsity == pytest.approx(0.5)


def test_a_network_that_is_shared_by_two_engines_counts_all_masks():
    net = nn.ModuleDict({"a": mlp(8, 8, 8), "b": mlp(8, 8, 8)})
    uniform = dict(method="static", distribution="uniform")
    sparsify(net["a"], SparseConfig(sparsity=0.25, **uniform))
    engine = sparsify(net["b"], SparseConfig(sparsity=0.75, **uniform))
    assert engine.network_sparsity == pytest.approx(0.75)
    engine.root = net
    assert engine.network_sparsity == pytest.approx(0.5)


def test_a_condensed_copy_keeps_what_stays_dense():
    net = nn.Sequential(Scaled(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with pytest.warns(UserWarning, match="stay dense"):
        sparsify(net, SparseConfig(sparsity=0.5))
    x = torch.randn(3, 8)
    torch.testing.assert_close(condense(net)(x), net(x))
