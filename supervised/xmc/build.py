"""The model, the optimizer and the loss of a spec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn
from torch.optim import Optimizer

from sparse_core.building import sparsify
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.engine import Engine
from supervised import making
from supervised.data.text import Samples
from supervised.xmc.losses import Loss
from supervised.xmc.model import AUXILIARY, OUTPUT, OneVsAll
from supervised.xmc.spec import LOSSES, OPTIMIZERS, XMCSpec

SETTINGS: Mapping[str, Mapping[str, float]] = {"sgd": {"momentum": 0.9}}
"""Keyword arguments of optimizers beside the learning rate."""


def make_model(spec: XMCSpec, train: Samples) -> tuple[OneVsAll, Engine]:
    """Build the model of a spec for the data's features and labels, its output layer sparse.

    Returns:
        The model, and the engine that moves the topology of its output layer.

    Raises:
        InputError: If the sparsity cannot be had, or a softmax would be cut into blocks.
    """
    sparse = spec.sparse
    if spec.loss == "softmax" and not spec.sampled and spec.block < train.labels.width:
        raise InputError(
            f"block={spec.block}: of loss 'softmax' must be at least {train.labels.width}, the "
            "labels, unless they are sampled",
            field="block",
        )
    model = OneVsAll(
        train.features.width,
        train.labels.width,
        intermediate=spec.intermediate,
        groups=spec.auxiliary,
        block=spec.block,
        born=is_born(sparse),
    )
    dense = (*spec.sparse.dense, *([AUXILIARY] if spec.auxiliary else []))
    config = replace(spec.sparse, dense=dense, seed=spec.seed, horizon=None)
    roles = {f"{OUTPUT}.*": "output"}
    return model, sparsify(model, config, roles=roles, batch=spec.batch_size)


def is_born(sparse: SparseConfig) -> bool:
    """Whether an output layer can be born sparse: condensed, of one fan-in from the beginning."""
    return (
        sparse.facts.sparse
        and sparse.backend == "condensed"
        and sparse.structure_in_force == "constant_fan_in"
        and not sparse.density_moves
        and sparse.receptive_field is None
        and not sparse.dense
    )


def make_optimizer(spec: XMCSpec, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Build the optimizer of a spec.

    Raises:
        InputError: If there is none such, or it takes other arguments.
    """
    settings = SETTINGS.get(spec.optimizer, {})
    return making.make_optimizer(spec.optimizer, OPTIMIZERS, parameters, lr=spec.lr, **settings)


def loss_of(spec: XMCSpec) -> Loss:
    """Return the loss of a spec.

    Raises:
        InputError: If there is none such, or it takes other arguments.
    """
    arguments = ("logits", "rows", "columns")
    return making.loss_of(spec.loss, LOSSES, arguments, "supervised.xmc.losses")
