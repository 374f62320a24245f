"""The condensed kernels of the CPU, with their arguments checked.

Activations are float32 arrays of one of two layouts: rows, (batch, features), as everywhere else;
or blocked, (tiles, features, tile), see `pack`. A chain of layers packs its input once, stays in
the blocked layout through activations of `activate`, and unpacks its output once; `layer.py` does
this for a single layer. Where the last tile has more samples than the batch, the excess is zeros:
`pack` and `forward` write it so, and every other kernel keeps it so.

Inputs that are not C-contiguous are copied. Arrays given as `out` must be C-contiguous float32 of
the right shape, and must not overlap the inputs, unless said otherwise. Every function may be
called from several Python threads at once, on different outputs.
"""

from __future__ import annotations

from sparse_core.kernels import isa, plan, unchecked
from sparse_core.kernels.arguments import (
    Array,
    as_bias,
    as_blocked,
    as_input,
    as_output,
    as_sample,
    as_values,
    tile_size,
)
from sparse_core.kernels.backward import row_sums_kernel
from sparse_core.kernels.elementwise import NAMES
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.threads import team


def pack(x: Array, *, tile: int | None = None, out: Array | None = None, threads: int = 1) -> Array:
    """Bring rows into the blocked layout.

    Args:
        x: (batch, features) float32.
        tile: Samples of a tile, one of `isa.host().tiles`; by default `tile_size(batch)`.
        out: (tiles, features, tile) float32 to write to, or None.
        threads: Threads to use.

    Returns:
        (tiles, features, tile) float32 with `tiles = ceil(batch / tile)`; zeros after the batch.

    Raises:
        ValueError: If a shape or `tile` is wrong.
        TypeError: If a dtype is.
    """
    x = as_input("x", x, 2)
    if tile is None:
        tile = tile_size(x.shape[0])
    elif tile not in isa.host().tiles:
        raise ValueError(f"tile must be one of {isa.host().tiles}, got {tile}")
    out = as_output("out", out, (-(-x.shape[0] // tile), x.shape[1], tile))
    unchecked.pack(x, out, threads)
    return out


def unpack(blocked: Array, batch: int, *, out: Array | None = None, threads: int = 1) -> Array:
    """Bring a blocked array back into rows.

    Args:
        blocked: (tiles, features, tile) float32.
        batch: Number of samples.
        out: (batch, features) float32 to write to, or None.
        threads: Threads to use.

    Returns:
        (batch, features) float32.

    Raises:
        ValueError: If a shape or `batch` is wrong.
        TypeError: If a dtype is.
    """
    blocked = as_blocked("blocked", blocked, batch)
    out = as_output("out", out, (batch, blocked.shape[1]))
    unchecked.unpack(blocked, out, threads)
    return out


def forward(
    pattern: Pattern,
    values: Array,
    x: Array,
    batch: int,
    bias: Array | None = None,
    *,
    relu: bool = False,
    out: Array | None = None,
    threads: int = 1,
) -> Array:
    """Compute W x + b, and max(., 0) of it if `relu`.

    Args:
        pattern: The active weights.
        values: (capacity,) float32, `pattern.size` or more.
        x: (tiles, in, tile) float32, blocked.
        batch: Number of samples.
        bias: (out,) float32 or None.
        relu: Whether to apply max(., 0).
        out: (tiles, out, tile) float32 to write to, or None.
        threads: Threads to use.

    Returns:
        (tiles, out, tile) float32. Rows without weights give their bias; zeros after the batch.

    Raises:
        ValueError: If a shape or `batch` is wrong.
        TypeError: If a dtype is.
    """
    x = as_blocked("x", x, batch, pattern.in_features)
    tiles, _, tile = x.shape
    values = as_values(pattern, values)
    bias = as_bias(pattern, bias)
    out = as_output("out", out, (tiles, pattern.out_features, tile))
    run = unchecked.forward(pattern, tiles, tile, batch, relu, threads)
    run(values, x, bias, out, batch)
    return out


def grad_input(
    pattern: Pattern,
    values: Array,
    dy: Array,
    batch: int,
    *,
    method: str = "auto",
    out: Array | None = None,
    threads: int = 1,
) -> Array:
    """Compute W^T dy, the gradient of the input.

    Args:
        pattern: The active weights.
        values: (capacity,) float32, `pattern.size` or more.
        dy: (tiles, out, tile) float32, blocked: the gradient of the output.
        batch: Number of samples.
        method: `gather` multiplies with a transposed copy of the weights, made at every call
            through an index made once for a pattern; `scatter` adds into the result and needs
            neither; `auto` gathers if rows have columns of their own and the index is affordable.
        out: (tiles, in, tile) float32 to write to, or None.
        threads: Threads to use.

    Returns:
        (tiles, in, tile) float32.

    Raises:
        ValueError: If a shape, `batch` or `method` is wrong.
        TypeError: If a dtype is.
    """
    dy = as_blocked("dy", dy, batch, pattern.out_features)
    tiles, _, tile = dy.shape
    values = as_values(pattern, values)
    out = as_output("out", out, (tiles, pattern.in_features, tile))
    if method not in ("auto", "gather", "scatter"):
        raise ValueError(f"method must be auto, gather or scatter, got {method!r}")
    gather = method == "gather" or (method == "auto" and plan.gathers(pattern))
    run = unchecked.grad_input(pattern, tiles, tile, batch, gather, threads)
    run(values, dy, out, batch)
    return out


def grad_values(
    pattern: Pattern,
    x: Array,
    dy: Array,
    batch: int,
    *,
    capacity: int | None = None,
    out: Array | None = None,
    bias_out: Array | None = None,
    threads: int = 1,
) -> Array:
    """Compute the gradient of the values, dy x^T at active weights.

    Args:
        pattern: The active weights.
        x: (tiles, in, tile) float32, blocked: the input.
        dy: (tiles, out, tile) float32, blocked: the gradient of the output.
        batch: Number of samples.
        capacity: Length of the result; by default that of `out`, or `pattern.size`.
        out: (capacity,) float32 to write to, or None.
        bias_out: (out,) float32 to write the gradient of the bias to, or None; this is cheaper
            than `grad_bias`.
        threads: Threads to use.

    Returns:
        (capacity,) float32, zeros where unused.

    Raises:
        ValueError: If a shape, `batch` or `capacity` is wrong.
        TypeError: If a dtype is.
    """
    x = as_blocked("x", x, batch, pattern.in_features)
    dy = as_blocked("dy", dy, batch, pattern.out_features)
    if x.shape[2] != dy.shape[2]:
        raise ValueError(f"x has tiles of {x.shape[2]} samples, dy of {dy.shape[2]}")
    if capacity is None:
        capacity = pattern.size if out is None else out.size
    if capacity < pattern.size:
        raise ValueError(f"capacity must be at least {pattern.size}, got {capacity}")
    out = as_output("out", out, (capacity,))
    db = out[:0] if bias_out is None else as_output("bias_out", bias_out, (dy.shape[1],))
    unchecked.grad_values(pattern, x.shape[2], batch, threads)(x, dy, out, db)
    return out


def grad_bias(dy: Array, batch: int, *, out: Array | None = None, threads: int = 1) -> Array:
    """Compute the gradient of the bias, the sum of dy over samples.

    Args:
        dy: (tiles, out, tile) float32, blocked: the gradient of the output.
        batch: Number of samples.
        out: (out,) float32 to write to, or None.
        threads: Threads to use.

    Returns:
        (out,) float32.

    Raises:
        ValueError: If a shape or `batch` is wrong.
        TypeError: If a dtype is.
    """
    dy = as_blocked("dy", dy, batch)
    out = as_output("out", out, (dy.shape[1],))
    threads = plan.useful_threads(threads, dy.size)
    with team(threads):
        row_sums_kernel(dy.shape[2], threads > 1)(dy, out, threads)
    return out


def gemv(
    pattern: Pattern,
    values: Array,
    x: Array,
    bias: Array | None = None,
    *,
    relu: bool = False,
    out: Array | None = None,
    threads: int = 1,
) -> Array:
    """Compute W x + b for one sample.

    Args:
        pattern: The active weights.
        values: (capacity,) float32, `pattern.size` or more.
        x: (in,) float32.
        bias: (out,) float32 or None.
        relu: Whether to apply max(., 0).
        out: (out,) float32 to write to, or None.
        threads: Threads to use.

    Returns:
        (out,) float32.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If a dtype is.
    """
    values = as_values(pattern, values)
    x, bias, out = as_sample(pattern, x, bias, out)
    unchecked.gemv(pattern, relu, threads)(values, x, bias, out)
    return out


def activate(name: str, x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """Apply an activation to an array of any shape.

    Args:
        name: `relu` or `tanh`.
        x: float32.
        out: Array like `x` to write to, which may be `x` itself, or None.
        threads: Threads to use.

    Returns:
        float32 of the shape of `x`.

    Raises:
        ValueError: If `name` or a shape is wrong.
        TypeError: If a dtype is.
    """
    return _elementwise(name, (x,), ("relu", "tanh"), out, threads)


def activate_backward(
    name: str, dy: Array, y: Array, *, out: Array | None = None, threads: int = 1
) -> Array:
    """Compute the gradient of an activation's input.

    Args:
        name: `relu` or `tanh`.
        dy: float32, the gradient of the activation's output.
        y: float32 of the same shape, the output.
        out: Array like `dy` to write to, which may be `dy` or `y` itself, or None.
        threads: Threads to use.

    Returns:
        float32 of the shape of `dy`.

    Raises:
        ValueError: If `name` or a shape is wrong.
        TypeError: If a dtype is.
    """
    return _elementwise(f"{name}_backward", (dy, y), NAMES[1::2], out, threads)


def _elementwise(
    name: str, inputs: tuple[Array, ...], names: tuple[str, ...], out: Array | None, threads: int
) -> Array:
    if name not in names:
        raise ValueError(f"activation must be relu or tanh, got {name.removesuffix('_backward')!r}")
    arrays = [as_input("input", array, array.ndim) for array in inputs]
    shape = arrays[0].shape
    if arrays[-1].shape != shape:
        raise ValueError(f"dy and y must have one shape, got {shape} and {arrays[-1].shape}")
    out = as_output("out", out, shape)
    unchecked.elementwise(name, arrays[0], arrays[-1], out, threads)
    return out
