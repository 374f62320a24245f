"""Small attention, sparse and torch's own."""

from __future__ import annotations

import copy

import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.layers.dense import become_dense

SIZE, HEADS = 8, 2


def attention(seed=0, **options):
    torch.manual_seed(seed)
    return nn.MultiheadAttention(SIZE, HEADS, **options)


def sparse(module, backend="condensed", optimizer=None, **config):
    base = dict(method="srigl", sparsity=0.5, update_every=2, never_ablate=(), backend=backend)
    return sparsify(module, SparseConfig(**(base | config)), optimizer)


def dense_twin(condensed, **options):
    """Return torch's own module with the weights that a condensed one computes with."""
    twin = attention(**options)
    copied = copy.deepcopy(condensed)
    become_dense(copied)
    assert type(copied) is nn.MultiheadAttention
    twin.load_state_dict({k: v for k, v in copied.state_dict().items() if k != "sparse_clock"})
    return twin.train(condensed.training)
