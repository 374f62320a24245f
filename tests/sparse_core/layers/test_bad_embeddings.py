"""Embeddings that cannot be sparse are refused in one line."""

import copy

import pytest
from torch import nn

from sparse_core import SparseConfig, sparsify
from tests.sparse_core.bags import SIZE, VOCABULARY, Bag

REFUSED = [
    (dict(max_norm=1.0), {}, r"layer 'tokens.weight': max_norm=1.0: needs a dense embedding; keep"),
    (dict(sparse=True), {}, r"layer 'tokens.weight': sparse=True: needs a dense embedding; keep"),
    (dict(scale_grad_by_freq=True), {}, r"scale_grad_by_freq=True: needs a dense embedding; keep"),
    (
        dict(padding=3),
        dict(structure="2:4", sparsity=0.5),
        r"layer 'tokens.weight': padding_idx=3: .* not of a 2:4 pattern; keep it dense",
    ),
    (
        dict(padding=3),
        dict(method="srigl", group=2),
        r"padding_idx=3: .* not of a constant fan-in \(groups of 2\); keep it dense",
    ),
    (
        {},
        dict(method="gse", growth="sampled_graest"),
        r"growth='sampled_graest': layer 'tokens.weight' of shape \(30, 12\) is no linear layer",
    ),
    (
        {},
        dict(layer_sparsity={"tokens": 0.999}, method="srigl"),
        r"sparsity=0.999: leaves 0 weights, .* at least 30 \(layer 'tokens.weight' alone 30\)",
    ),
]


@pytest.mark.parametrize(("options", "fields", "message"), REFUSED)
def test_what_cannot_be_is_refused_and_changes_nothing(options, fields, message):
    net = Bag(**options)
    before = copy.deepcopy(net.state_dict())
    fields = dict(sparsity=0.5) | fields
    with pytest.raises(ValueError, match=message):
        sparsify(net, SparseConfig(embeddings=True, **fields))
    assert type(net.tokens) is nn.Embedding and list(before) == list(net.state_dict())
    sparsify(net, SparseConfig(embeddings=True, dense=("tokens",), sparsity=0.5))


def test_whole_tokens_are_not_removed():
    with pytest.raises(ValueError, match="embeddings=True: structure 'neurons' would take whole"):
        SparseConfig(embeddings=True, structure="neurons")


def test_a_tied_weight_is_refused():
    net = Bag()
    net.head = nn.Linear(SIZE, VOCABULARY)
    net.head.weight = net.tokens.weight
    message = r"layer 'tokens.weight': .* shared by 2 layers \(tokens.weight, head.weight\)"
    with pytest.raises(ValueError, match=message):
        sparsify(net, SparseConfig(embeddings=True, sparsity=0.5))
