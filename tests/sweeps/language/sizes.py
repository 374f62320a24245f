"""What the cells of a grid ask networks to hold: weights are counted, nothing is trained."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from continual.runs import fitting
from dstrl.policies.roles import named
from dstrl.runs.build import build
from dstrl.settings import SPLIT_KEYS
from dstrl.tasks.train import make_model as task_model
from sparse_core.budgets.distributions import budgets
from sparse_core.budgets.patterns import structure_for
from sparse_core.budgets.selection import select
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.imports import load
from sparse_core.sized import SIZE_FIELDS
from supervised.vision.catalogue import NETWORKS
from supervised.xmc.model import OUTPUT, OneVsAll
from sweeps.language.grid import Grid

OF_LAYERS = (
    "algo", "env", "env_kwargs", "wrappers", "wrapper_kwargs", "noise", "network", "net_arch",
    "features_extractor", "features_extractor_kwargs",
)  # fmt: skip
"""The fields that say which layers a policy has."""

OF_WEIGHTS = (*SIZE_FIELDS, "distribution", "structure_in_force", "group", "min_fan_in")
"""Those of a configuration that say how many weights layers need, or have."""

IMAGES = {
    "digits": ((1, 8, 8), 10), "mnist": ((1, 28, 28), 10), "cifar10-jpeg": ((3, 32, 32), 10),
}  # fmt: skip
TEXTS = {"bibtex": (1836, 159), "delicious": (500, 983)}
RATINGS = {"gowalla": 29_858 + 40_981}


def fits(module: nn.Module, config: SparseConfig, roles: Any = None) -> int:
    """Return how many weights are active."""
    structure = structure_for(config.structure_in_force, config.group)
    selected = select(module, roles, embeddings=config.embeddings)
    return sum(budgets(selected, config, structure).values())


@dataclasses.dataclass(frozen=True)
class Asked:
    """A run, equal to others whose policy has the same layers, or the same weights in them."""

    of: str
    spec: Any = dataclasses.field(compare=False)


@functools.cache
def policy_of(asked: Asked) -> Any:
    dense = dict.fromkeys(SPLIT_KEYS) | {"sparse": asked.spec.sparse.as_dense(), "target": None}
    return build(dataclasses.replace(asked.spec, **dense | {"tiny": False})).policy


@functools.cache
def weights_of(asked: Asked, layers: Asked) -> int:
    policy = policy_of(layers)
    policy.sparse = asked.spec.settings()
    return sum(
        fits(part.root, part.config, named(part.root, part.roles)) for part in policy.sparse_parts()
    )


def layers_of(spec: Any) -> Asked:
    return Asked(str([getattr(spec, name) for name in OF_LAYERS]), spec)


def policies(spec: Any) -> None:
    spec = spec.resolve()
    settings, layers = spec.settings(), layers_of(spec)
    weights = [
        getattr(config, name) for config in (settings.actor, settings.critic) for name in OF_WEIGHTS
    ]
    active = weights_of(Asked(f"{layers.of} {weights}", spec), layers)
    if spec.tiny:
        least = layers_of(dataclasses.replace(spec, tiny=False, net_arch=(1,) * len(spec.net_arch)))
        engines = policy_of(least).sparse_engines.values()
        if active < sum(layer.total for engine in engines for layer in engine.layers()):
            raise InputError("sparsity: leaves too few weights for the narrowest dense policy")


def policies_of_tasks(spec: Any) -> None:
    task_model(spec.resolve())


def images(spec: Any) -> None:
    known = NETWORKS[spec.network]
    make, depth = load("network", known.make, "a network"), spec.depth or known.depth
    with torch.device("meta"):
        fits(make(*IMAGES[spec.dataset], known.widths(spec.width, spec.depth), depth), spec.sparse)


def texts(spec: Any) -> None:
    assert not spec.auxiliary
    with torch.device("meta"):
        model = OneVsAll(*TEXTS[spec.dataset], intermediate=spec.intermediate, block=spec.block)
    fits(model, spec.sparse, {f"{OUTPUT}.*": "output"})


def ratings(spec: Any) -> None:
    with torch.device("meta"):
        table = nn.Embedding(RATINGS[spec.dataset], spec.size)
    fits(nn.Sequential(table), dataclasses.replace(spec.sparse, embeddings=True))


SIZED: dict[str, Callable[[Any], object]] = {
    "RLSpec": policies,
    "CRLSpec": policies_of_tasks,
    "CLSpec": fitting.check,
    "VisionSpec": images,
    "XMCSpec": texts,
    "RecSpec": ratings,
}


def check_sizes(grid: Grid) -> None:
    """Count what each cell of a grid needs.

    Raises:
        InputError: If a network cannot hold it.
    """
    for run in {id(run.cell): run for run in grid.runs}.values():
        SIZED[type(run.spec).__name__](run.spec)
