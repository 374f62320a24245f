"""The observations of a batch, as each network reads them.

Most networks read them as they are; those that normalise by running statistics are given each
batch at the moments when Stable-Baselines3 would give it to them, since they count what they see.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.torch_layers import FlattenExtractor

from dstrl.compiled.batches import lay_kernel
from dstrl.policies.normalising import RunningNormalisation
from sparse_core.layers.passing import watched
from sparse_core.step import CannotCompile, Shape
from sparse_core.step.parts import copy
from sparse_core.step.shape import Array
from sparse_core.step.tape import Tape

EXTRACTORS = (FlattenExtractor, RunningNormalisation)
"""Those that are known."""


def check_extractor(extractor: Any, name: str) -> None:
    """Check that it is known how a network reads observations.

    Args:
        extractor: The network's module that makes features of observations.
        name: Of the network.

    Raises:
        CannotCompile: If it is not.
    """
    if type(extractor) not in EXTRACTORS:
        raise CannotCompile(f"{name} has a {type(extractor).__name__}")
    if any(watched(module) for module in extractor.modules()):
        raise CannotCompile(f"{name} has hooks")


class Observations:
    """Lays one batch of observations where networks read them.

    Args:
        shape: Of the batch.
        features: Numbers in an observation.

    Attributes:
        raw: `(trained, features, tile)`, the observations as they are.
    """

    def __init__(self, shape: Shape, features: int) -> None:
        self._batch, self._features = shape.batch, features
        self.raw = shape.backward(features)
        self._lay = lay_kernel(shape.tile)

    def on_tape(self, tape: Tape, extractor: Any, into: Array) -> None:
        """Let a tape bring the batch to where a network reads it.

        Args:
            tape: What does it.
            extractor: One of `EXTRACTORS`; in training mode it counts what it sees.
            into: `(trained, at least features, tile)`, whose first features are written.
        """
        if type(extractor) is FlattenExtractor:
            copy(tape, self.raw, into)
        else:
            tape.do(lambda: self._normalise(extractor, into))

    def _normalise(self, extractor: Any, into: Array) -> None:
        rows = self.raw.transpose(0, 2, 1).reshape(-1, self._features)[: self._batch]
        with torch.no_grad():
            found = extractor(torch.from_numpy(np.ascontiguousarray(rows)))
        self._lay(found.numpy(), into, 0, 0)
