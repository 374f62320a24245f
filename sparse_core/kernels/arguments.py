"""Arguments of kernels: what is checked, and brought into the form that kernels take.

Kernels trust their arguments: nothing passes here that would make one read or write elsewhere.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import isa, plan
from sparse_core.kernels.buffers import empty
from sparse_core.kernels.format import Pattern

Array = NDArray[np.float32]


@lru_cache(1024)
def tile_size(batch: int) -> int:
    """Return the tile size that suits a batch: the number of samples side by side.

    A weight costs one load of itself and one for each vector of samples, so that is what is
    minimised over the tile sizes of the machine; among equals the smallest tile wins.

    Raises:
        ValueError: If `batch` is not positive.
    """
    if batch < 1:
        raise ValueError(f"batch must be positive, got {batch}")
    machine = isa.host()
    return min(
        machine.tiles,
        key=lambda tile: (-(-batch // tile) * (tile // machine.vector(tile) + 1), tile),
    )


def _float32(name: str, given: Any) -> Array:
    if not isinstance(given, np.ndarray) or given.dtype != np.float32:
        kind = getattr(given, "dtype", type(given).__name__)
        raise TypeError(f"{name} must be a float32 array, got {kind}")
    array: Array = given
    return array


def as_input(name: str, given: Any, ndim: int) -> Array:
    """Return an input as kernels take it: float32, C-contiguous, aligned and writable.

    Raises:
        ValueError: If it does not have `ndim` dimensions.
        TypeError: If it is not a float32 array.
    """
    array = _float32(name, given)
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {array.shape}")
    if not array.flags.carray:
        array = np.require(array, requirements=("C", "A", "W"))
    return array


def as_blocked(name: str, given: Any, batch: int, features: int | None = None) -> Array:
    """Return a blocked input, (tiles, features, tile), of `batch` samples.

    Raises:
        ValueError: If its shape is wrong.
        TypeError: If it is not a float32 array.
    """
    array = as_input(name, given, 3)
    tiles, height, tile = array.shape
    if tile not in isa.host().tiles:
        raise ValueError(f"{name} must have tiles of {isa.host().tiles}, got shape {array.shape}")
    if features is not None and height != features:
        raise ValueError(f"{name} must have {features} features, got shape {array.shape}")
    if not (tiles - 1) * tile < batch <= tiles * tile:
        raise ValueError(f"{name} of shape {array.shape} does not hold a batch of {batch}")
    return array


def as_values(pattern: Pattern, given: Any) -> Array:
    """Return values as kernels take them: (capacity,) float32, `pattern.size` or more.

    Raises:
        ValueError: If they are not flat or too few.
        TypeError: If the dtype is wrong.
    """
    values = as_input("values", given, 1)
    if values.size < pattern.size:
        raise ValueError(f"values must be {pattern.size} or more, got {values.size}")
    return values


def as_sample(pattern: Pattern, x: Any, bias: Any, out: Any) -> tuple[Array, Array, Array]:
    """Return the arguments of a product with one sample as kernels take them.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If a dtype is.
    """
    x = as_input("x", x, 1)
    if x.size != pattern.in_features:
        raise ValueError(f"x must have {pattern.in_features} features, got {x.size}")
    return x, as_bias(pattern, bias), as_output("out", out, (pattern.out_features,))


def as_bias(pattern: Pattern, given: Any) -> Array:
    """Return a bias, (out,) float32; zeros for None.

    Raises:
        ValueError: If its size is wrong.
        TypeError: If it is not a float32 array.
    """
    if given is None:
        return plan.zeros(pattern)
    bias = as_input("bias", given, 1)
    if bias.size != pattern.out_features:
        raise ValueError(f"bias must have {pattern.out_features} elements, got {bias.size}")
    return bias


def as_output(name: str, given: Any, shape: tuple[int, ...]) -> Array:
    """Return an array to write to: the one given, or a new one for None.

    Raises:
        ValueError: If the one given is of another shape, not C-contiguous or not writable.
        TypeError: If it is not a float32 array.
    """
    if given is None:
        return empty(*shape)
    array = _float32(name, given)
    if array.shape != shape or not array.flags.carray:
        raise ValueError(
            f"{name} must be a writable C-contiguous array of shape {shape}, got {array.shape}"
        )
    return array
