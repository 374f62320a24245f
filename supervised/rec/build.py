"""The model, the optimizer and the loss of a spec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from torch import nn
from torch.optim import Optimizer

from sparse_core.building import sparsify
from sparse_core.checks import InputError
from sparse_core.engine import Engine
from sparse_core.imports import load
from supervised import making
from supervised.data.rows import Rows
from supervised.rec.losses import Loss
from supervised.rec.models import Factors, LightGCN, NeuMF, Recommender
from supervised.rec.nmf import nmf_scores
from supervised.rec.spec import LOSSES, OPTIMIZERS, RecSpec


def make_model(spec: RecSpec, likes: Rows) -> tuple[nn.Module, Engine]:
    """Build the model of a spec for some users and items, its table sparse.

    Args:
        spec: The run.
        likes: Items for training, a row a user.

    Returns:
        The model, a `Recommender`, and the engine that moves its topology.

    Raises:
        InputError: If there is no such model, or the sparsity cannot be had.
    """
    model = _model(spec, likes)
    config = replace(spec.sparse, embeddings=True, seed=spec.seed, horizon=None)
    scores = None
    if spec.start == "nmf" and config.facts.sparse:
        scores = {"table.weight": nmf_scores(likes, spec.size, spec.seed)}
    tokens = spec.batch_size * (2 + spec.negatives)
    return model, sparsify(model, config, scores=scores, batch=tokens)


def _model(spec: RecSpec, likes: Rows) -> nn.Module:
    if spec.model == "mf":
        return Factors(likes, spec.size)
    if spec.model == "lightgcn":
        return LightGCN(likes, spec.size, spec.layers)
    if spec.model == "neumf":
        return NeuMF(likes, spec.size, spec.hidden)
    expected = "a function or class (likes, size) -> nn.Module with the methods of a Recommender"
    make = load("model", spec.model, expected, lambda found: making.takes(found, None, None))
    made = make(likes, spec.size)
    methods = [name for name in vars(Recommender) if not name.startswith("_")]
    if not isinstance(made, nn.Module) or not all(hasattr(made, name) for name in methods):
        raise InputError(
            f"model={spec.model!r}: gave a {type(made).__name__}, must be {expected}", field="model"
        )
    return made


def recommender(model: nn.Module) -> Recommender:
    """Return a model that `make_model` made as what it is besides."""
    return cast(Recommender, model)


def make_optimizer(spec: RecSpec, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Build the optimizer of a spec.

    Raises:
        InputError: If there is none such, or it takes other arguments.
    """
    lazy = {"lazy": spec.lazy} if spec.optimizer in OPTIMIZERS else {}
    return making.make_optimizer(spec.optimizer, OPTIMIZERS, parameters, lr=spec.lr, **lazy)


def loss_of(spec: RecSpec) -> Loss:
    """Return the loss of a spec.

    Raises:
        InputError: If there is none such, or it takes other arguments.
    """
    return making.loss_of(spec.loss, LOSSES, ("liked", "negative"), "supervised.rec.losses")
