"""A condensed linear layer on ordinary rows: what an autograd function calls.

float32 runs on the compiled kernels and is packed and unpacked here; float64, which is there for
numerical checks of gradients, runs on the plain functions of `reference`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import cpu, reference
from sparse_core.kernels.format import Pattern

Array = NDArray[Any]

_GEMV_BATCH = 2  # samples up to which products one by one beat a tile


def linear(
    pattern: Pattern,
    values: Array,
    x: Array,
    bias: Array | None = None,
    *,
    relu: bool = False,
    threads: int = 1,
) -> Array:
    """Compute x W^T + b where no gradient is needed.

    Args:
        pattern: The active weights.
        values: (capacity,) float32 or float64, `pattern.size` or more.
        x: (batch, in) of the same dtype.
        bias: (out,) of the same dtype, or None.
        relu: Whether to apply max(., 0).
        threads: Threads to use.

    Returns:
        (batch, out).

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If dtypes differ or are neither float32 nor float64.
    """
    _check(pattern, values, x, bias)
    if _plain(x):
        return reference.forward(pattern, values, x, bias, relu)
    batch = x.shape[0]
    if batch > _GEMV_BATCH:
        packed = cpu.pack(x, threads=threads)
        y = cpu.forward(pattern, values, packed, batch, bias, relu=relu, threads=threads)
        return cpu.unpack(y, batch, threads=threads)
    out = cpu.empty(batch, pattern.out_features)
    for i in range(batch):
        cpu.gemv(pattern, values, x[i], bias, relu=relu, out=out[i], threads=threads)
    return out


def linear_forward(
    pattern: Pattern,
    values: Array,
    x: Array,
    bias: Array | None = None,
    *,
    threads: int = 1,
) -> tuple[Array, Array]:
    """Compute x W^T + b, and what `linear_backward` needs.

    Args:
        pattern: The active weights.
        values: (capacity,) float32 or float64, `pattern.size` or more.
        x: (batch, in) of the same dtype.
        bias: (out,) of the same dtype, or None.
        threads: Threads to use.

    Returns:
        y (batch, out), and the input in the layout that the backward pass takes.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If dtypes differ or are neither float32 nor float64.
    """
    _check(pattern, values, x, bias)
    if _plain(x):
        return reference.forward(pattern, values, x, bias), x
    batch = x.shape[0]
    packed = cpu.pack(x, threads=threads)
    y = cpu.forward(pattern, values, packed, batch, bias, threads=threads)
    return cpu.unpack(y, batch, threads=threads), packed


def linear_backward(
    pattern: Pattern,
    values: Array,
    saved: Array,
    dy: Array,
    *,
    need_input: bool = True,
    need_values: bool = True,
    need_bias: bool = True,
    threads: int = 1,
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of a layer.

    Args:
        pattern: The active weights, as in the forward pass.
        values: (capacity,) as in the forward pass.
        saved: What `linear_forward` returned beside its output.
        dy: (batch, out) gradient of the output.
        need_input: Whether to compute the gradient of x.
        need_values: Whether to compute the gradient of `values`.
        need_bias: Whether to compute the gradient of the bias.
        threads: Threads to use.

    Returns:
        Gradients of x (batch, in), of values (capacity,), zeros where unused, and of the bias
        (out,); None for those not needed.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If dtypes differ or are neither float32 nor float64.
    """
    if dy.ndim != 2 or dy.shape[1] != pattern.out_features:
        raise ValueError(f"dy must be (batch, {pattern.out_features}), got {dy.shape}")
    if not values.dtype == saved.dtype == dy.dtype:
        raise TypeError(f"dtypes must agree, got {values.dtype}, {saved.dtype} and {dy.dtype}")
    batch, capacity = dy.shape[0], values.size
    if _plain(dy):
        return (
            reference.grad_input(pattern, values, dy) if need_input else None,
            reference.grad_values(pattern, saved, dy, capacity) if need_values else None,
            reference.grad_bias(dy) if need_bias else None,
        )
    packed = cpu.pack(dy, tile=saved.shape[2], threads=threads)
    dx = dvalues = dbias = None
    if need_input:
        dx = cpu.unpack(
            cpu.grad_input(pattern, values, packed, batch, threads=threads), batch, threads=threads
        )
    if need_values:
        dvalues = cpu.grad_values(
            pattern, saved, packed, batch, capacity=capacity, threads=threads
        )
    if need_bias:
        dbias = cpu.grad_bias(packed, batch, threads=threads)
    return dx, dvalues, dbias


def _plain(array: Array) -> bool:
    """Whether an array takes the plain path: float64, or nothing at all."""
    return array.dtype == np.float64 or array.shape[0] == 0


def _check(pattern: Pattern, values: Array, x: Array, bias: Array | None) -> None:
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}")
    if values.dtype != x.dtype or (bias is not None and bias.dtype != x.dtype):
        bias_dtype = "" if bias is None else f", bias {bias.dtype}"
        raise TypeError(f"dtypes must agree, got x {x.dtype}, values {values.dtype}{bias_dtype}")
    if x.ndim != 2 or x.shape[1] != pattern.in_features:
        raise ValueError(f"x must be (batch, {pattern.in_features}), got {x.shape}")
    if values.ndim != 1 or values.size < pattern.size:
        raise ValueError(f"values must be flat, {pattern.size} or more, got {values.shape}")
    if bias is not None and bias.shape != (pattern.out_features,):
        raise ValueError(f"bias must be ({pattern.out_features},), got {bias.shape}")
