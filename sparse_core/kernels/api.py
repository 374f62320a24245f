"""A condensed linear layer on ordinary rows: what an autograd function calls.

float32 runs on the compiled kernels, which pack, multiply and unpack a tile of samples while it
is in the cache; float64, which is there for numerical checks of gradients, runs on the plain
functions of `reference`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import checked, reference, unchecked
from sparse_core.kernels.arguments import as_bias, as_blocked, as_input, as_output, as_values
from sparse_core.kernels.buffers import empty
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
    out: Array | None = None,
    threads: int = 1,
) -> Array:
    """Compute x W^T + b where no gradient is needed.

    Args:
        pattern: The active weights.
        values: (capacity,) float32 or float64, `pattern.size` or more.
        x: (batch, in) of the same dtype.
        bias: (out,) of the same dtype, or None.
        relu: Whether to apply max(., 0).
        out: (batch, out) float32 to write to, or None; not for float64.
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
        return _forward(pattern, values, x, bias, relu, out, False, threads)[0]
    out = as_output("out", out, (batch, pattern.out_features))
    for i in range(batch):
        checked.gemv(pattern, values, x[i], bias, relu=relu, out=out[i], threads=threads)
    return out


def linear_forward(
    pattern: Pattern,
    values: Array,
    x: Array,
    bias: Array | None = None,
    *,
    relu: bool = False,
    out: Array | None = None,
    threads: int = 1,
) -> tuple[Array, Array]:
    """Compute x W^T + b, and what `linear_backward` needs.

    Args:
        pattern: The active weights.
        values: (capacity,) float32 or float64, `pattern.size` or more.
        x: (batch, in) of the same dtype.
        bias: (out,) of the same dtype, or None.
        relu: Whether to apply max(., 0).
        out: (batch, out) float32 to write to, or None; not for float64.
        threads: Threads to use.

    Returns:
        y (batch, out), and the input in the layout that the backward pass takes.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If dtypes differ or are neither float32 nor float64.
    """
    _check(pattern, values, x, bias)
    if _plain(x):
        return reference.forward(pattern, values, x, bias, relu), x
    return _forward(pattern, values, x, bias, relu, out, True, threads)


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
    """Compute the gradients of a layer (of its part before `relu`).

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
        if saved.shape != (batch, pattern.in_features):
            expected = (batch, pattern.in_features)
            raise ValueError(f"saved must be {expected} for dy {dy.shape}, got {saved.shape}")
        return (
            reference.grad_input(pattern, values, dy) if need_input else None,
            reference.grad_values(pattern, saved, dy, capacity) if need_values else None,
            reference.grad_bias(dy) if need_bias else None,
        )
    saved = as_blocked("saved", saved, batch, pattern.in_features)
    dx = dvalues = dbias = None
    if need_input:
        dy, values = as_input("dy", dy, 2), as_values(pattern, values)
        dx = empty(batch, pattern.in_features)
        packed = unchecked.rows_grad_input(pattern, values, dy, saved.shape[2], dx, threads)
    else:
        packed = checked.pack(dy, tile=saved.shape[2], threads=threads)
    if need_bias:
        dbias = empty(pattern.out_features)
    if need_values:
        dvalues = checked.grad_values(
            pattern, saved, packed, batch, capacity=capacity, bias_out=dbias, threads=threads
        )
    elif need_bias:
        checked.grad_bias(packed, batch, out=dbias, threads=threads)
    return dx, dvalues, dbias


def _forward(
    pattern: Pattern,
    values: Array,
    x: Array,
    bias: Array | None,
    relu: bool,
    out: Array | None,
    keep: bool,
    threads: int,
) -> tuple[Array, Array]:
    """Return y and packed x, of which only one tile is there unless `keep`."""
    x, values, offset = as_input("x", x, 2), as_values(pattern, values), as_bias(pattern, bias)
    out = as_output("out", out, (x.shape[0], pattern.out_features))
    return out, unchecked.rows_forward(pattern, values, x, offset, relu, out, keep, threads)


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
