"""Weights of earlier tasks in a condensed layer: its forward pass reads them, nothing trains them.

- `Reused`: they are among the layer's own active weights; their places in its values are not read.
- `Lent`: they lie beside the layer's own active weights, and have no place in its values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from sparse_core.kernels.format import Pattern

Array = NDArray[Any]


def constant(array: Array) -> Tensor:
    """Return a tensor on an array's memory; a trace holds it as a constant, without a warning."""
    return from_dlpack(array)


@dataclass(frozen=True)
class Reused:
    """Some of a layer's values do not train.

    Attributes:
        pattern: The weights that train, a part of the layer's pattern.
        source: (n,) int64, places in the values of that part, unused ones left out.
        places: (n,) int64, where in the layer's values they lie.
        fixed: (capacity,) bool, values that do not train.
        frozen: (capacity,) what those are worth, zeros elsewhere.
    """

    pattern: Pattern
    source: NDArray[np.int64]
    places: NDArray[np.int64]
    fixed: NDArray[np.bool_]
    frozen: Array

    @classmethod
    def among(
        cls, pattern: Pattern, protected: NDArray[np.bool_], weights: Array, capacity: int
    ) -> Reused:
        """Separate the weights of a pattern that train from those that do not.

        Args:
            pattern: The layer's pattern.
            protected: (rows, cols) bool, weights that do not train.
            weights: (rows, cols), what those are worth.
            capacity: Length of its values.
        """
        own = Pattern.from_mask(pattern.to_mask() & ~protected, pattern.group)
        found = own.places_in(pattern)
        source = np.flatnonzero(found >= 0)
        fixed = np.zeros(capacity, np.bool_)
        fixed[: pattern.size] = True
        fixed[found[source]] = False
        worth = np.where(protected, weights, 0).astype(weights.dtype)
        return cls(own, source, found[source], fixed, pattern.condense(worth, capacity))

    @property
    def room(self) -> int:
        """Length of the gradient that `of_part` takes."""
        return self.pattern.size

    def read(self, pattern: Pattern, values: Array) -> tuple[Pattern, Array]:
        """Return what the forward pass reads: the layer's pattern, `values` where they train."""
        return pattern, np.where(self.fixed, self.frozen, values)

    def read_tensor(self, pattern: Pattern, values: Tensor) -> tuple[Pattern, Tensor]:
        """Return the same in operations of torch, differentiable where weights train."""
        return pattern, torch.where(constant(self.fixed), constant(self.frozen), values)

    def of_part(self, gradient: Array) -> Array:
        """Bring the gradient of the weights that train, (room,), to the values: (capacity,)."""
        whole: Array = np.zeros(self.fixed.size, gradient.dtype)
        whole[self.places] = gradient[self.source]
        return whole


@dataclass(frozen=True)
class Lent:
    """A layer reads weights beside its own.

    Attributes:
        pattern: The layer's pattern: all of its weights train.
        union: Both.
        lent: (union.size,) the lent weights, zeros elsewhere.
        source: (n,) int64, places in the layer's values, unused ones left out.
        places: (n,) int64, where in those of the union they lie.
        fixed: (capacity,) bool: none of the values.
    """

    pattern: Pattern
    union: Pattern
    lent: Array
    source: NDArray[np.int64]
    places: NDArray[np.int64]
    fixed: NDArray[np.bool_]

    @classmethod
    def beside(
        cls, pattern: Pattern, lent: NDArray[np.bool_], weights: Array, capacity: int
    ) -> Lent:
        """Let a layer read weights beside its own.

        Args:
            pattern: The layer's pattern.
            lent: (rows, cols) bool, weights that are not the layer's.
            weights: (rows, cols), what they are worth.
            capacity: Length of the layer's values.

        Raises:
            ValueError: If the rows of a group differ.
        """
        union = Pattern.from_mask(pattern.to_mask() | lent, pattern.group)
        found = pattern.places_in(union)
        source = np.flatnonzero(found >= 0)
        values = union.condense(np.where(lent, weights, 0).astype(weights.dtype))
        return cls(pattern, union, values, source, found[source], np.zeros(capacity, np.bool_))

    @property
    def room(self) -> int:
        """Length of the gradient that `of_part` takes."""
        return self.fixed.size

    def read(self, pattern: Pattern, values: Array) -> tuple[Pattern, Array]:
        """Return what the forward pass reads: both, and `values` (capacity,) in their places."""
        joined: Array = self.lent.copy()
        joined[self.places] = values[self.source]
        return self.union, joined

    def read_tensor(self, pattern: Pattern, values: Tensor) -> tuple[Pattern, Tensor]:
        """Return the same in operations of torch, differentiable where weights train."""
        own = values[constant(self.source)]
        return self.union, constant(self.lent).scatter(0, constant(self.places), own)

    def of_part(self, gradient: Array) -> Array:
        """Bring the gradient of the weights that train, (room,), to the values: (capacity,)."""
        return gradient


Shared = Reused | Lent
