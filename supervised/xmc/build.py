"""The model, the optimizer and the loss of a spec."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn
from torch.optim import Optimizer

from sparse_core.building import sparsify
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.engine import Engine
from sparse_core.imports import load
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
        InputError: If the sparsity cannot be had.
    """
    sparse = spec.sparse
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
    expected = "a function or class (parameters, lr=...) -> Optimizer"
    settings = {"lr": spec.lr, **SETTINGS.get(spec.optimizer, {})}
    reference = OPTIMIZERS.get(spec.optimizer, spec.optimizer)
    make = load("optimizer", reference, expected, lambda found: _takes(found, None, **settings))
    made = make(parameters, **settings)
    if not isinstance(made, Optimizer):
        raise InputError(
            f"optimizer={spec.optimizer!r}: gave a {type(made).__name__}, must be {expected}",
            field="optimizer",
        )
    return made


def loss_of(spec: XMCSpec) -> Loss:
    """Return the loss of a spec.

    Raises:
        InputError: If there is none such, or it takes other arguments.
    """
    expected = "a function (logits, rows, columns) such as those of supervised.xmc.losses"
    reference = LOSSES.get(spec.loss, spec.loss)
    found: Loss = load("loss", reference, expected, lambda found: _takes(found, None, None, None))
    return found


def _takes(found: object, *arguments: object, **settings: object) -> bool:
    """Whether something can be called with these arguments."""
    if not callable(found):
        return False
    try:
        inspect.signature(found).bind(*arguments, **settings)
    except TypeError:
        return False
    except ValueError:  # of compiled code
        return True
    return True
