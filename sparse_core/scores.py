"""Drop scores and grow scores: one small function each, registered by name in `sparse_core.config`.

A score function maps a `Scene` to a `(rows, cols)` tensor. The weights with the lowest drop scores
are dropped; the candidates with the highest grow scores are grown.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_core.config import DROP_RULES, GROWTH_RULES
from sparse_core.streams import stream
from sparse_core.topology import SparseTensor


@dataclass(frozen=True)
class Moment:
    """The clock at an update.

    Attributes:
        step: Optimizer steps done.
        update: Updates done before this one.
        fraction: Fraction of the active weights to move.
        seed: The configuration's seed.
    """

    step: int
    update: int
    fraction: float
    seed: int


@dataclass(frozen=True)
class Scene:
    """What a score may look at: one weight matrix at one update.

    Attributes:
        tensor: The sparse weight.
        moment: The clock.
        active: `(rows, cols)` bool, before the update.
    """

    tensor: SparseTensor
    moment: Moment
    active: Tensor

    @property
    def weight(self) -> Tensor:
        """`(rows, cols)` weights, zero where inactive."""
        return self.tensor.values()

    @property
    def gradient(self) -> Tensor:
        """`(rows, cols)` dense gradient of the step before the update.

        Raises:
            RuntimeError: If none flowed to this layer.
        """
        gradient = self.tensor.tap.value
        if gradient is None:
            raise RuntimeError(
                f"layer {self.tensor.name!r}: no gradient flowed in optimizer step "
                f"{self.moment.step}, which the growth rule needs; keep the layer dense or "
                "grow at random"
            )
        return gradient.reshape(self.active.shape)

    def random(self, purpose: str) -> Tensor:
        """Return `(rows, cols)` float64 in [0, 1) from this layer's own stream at this update."""
        moment = self.moment
        generator = stream(moment.seed, purpose, moment.update, self.tensor.name)
        draws = torch.rand(self.active.shape, generator=generator, dtype=torch.float64)
        return draws.to(self.active.device)


Score = Callable[[Scene], Tensor]


def magnitude(scene: Scene) -> Tensor:
    """|w|."""
    return scene.weight.abs()


def random(scene: Scene) -> Tensor:
    """Uniform random (SET, Mocanu et al. 2018)."""
    return scene.random("growth")


def gradient(scene: Scene) -> Tensor:
    """|dL/dw| of the dense gradient (RigL, Evci et al. 2020)."""
    return scene.gradient.abs()


def drop_rule(name: str) -> Score:
    """Look a drop score up by its name."""
    return _load(DROP_RULES[name])


def growth_rule(name: str) -> Score:
    """Look a grow score up by its name."""
    return _load(GROWTH_RULES[name].function)


def _load(path: str) -> Score:
    module, _, function = path.partition(":")
    found: Score = getattr(importlib.import_module(module), function)
    return found
