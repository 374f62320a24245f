"""The products of a layer on a tape, on one thread; with more they are called from Python.

They are those of `sparse_core.kernels.unchecked`, by the same plans.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import banded, plan, unchecked
from sparse_core.kernels.backward import dots_kernel, scatter_kernel
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.forward import forward_kernel
from sparse_core.kernels.take import take_kernel
from sparse_core.step.shape import Array, zeros
from sparse_core.step.tape import Tape


def forward(
    tape: Tape, pattern: Pattern, values: Array, x: Array, bias: Array, out: Array, relu: bool,
    threads: int,
) -> None:  # fmt: skip
    """Write W x + b, with ReLU or without, to `out`."""
    tiles, _, tile = x.shape
    batch = tiles * tile
    if plan.useful_threads(threads, pattern.size * batch) > 1:
        run = unchecked.forward(pattern, tiles, tile, batch, relu, threads)
        tape.do(functools.partial(run, values, x, bias, out, batch))
        return
    bands = plan.row_bands(pattern, tile, 1)
    if bands is not None:
        tape.call(
            banded.forward_kernel(tile, relu, False),
            values, *bands.arrays, bands.parts, pattern.absent, x, bias, out, batch,
        )  # fmt: skip
        return
    tape.call(
        forward_kernel(pattern.group, tile, pattern.index, relu, pattern.tail, False),
        values, pattern.columns, pattern.indptr, pattern.rows, pattern.absent, x, bias, out,
        plan.row_bounds(pattern, 1), batch,
    )  # fmt: skip


def grad_input(
    tape: Tape, pattern: Pattern, values: Array, dy: Array, out: Array, threads: int
) -> None:
    """Write W^T dy to `out`."""
    tiles, _, tile = dy.shape
    batch = tiles * tile
    gather = plan.gathers(pattern)
    if plan.useful_threads(threads, pattern.size * batch) > 1:
        run = unchecked.grad_input(pattern, tiles, tile, batch, gather, threads)
        tape.do(functools.partial(run, values, dy, out, batch))
        return
    if not gather:
        splits, edges = plan.column_splits(pattern, plan.scattered_parts(pattern, tile, 1))
        tape.call(
            scatter_kernel(pattern.group, tile, pattern.index, pattern.tail, False),
            values, pattern.columns, pattern.indptr, pattern.rows, dy, out, splits, edges,
        )  # fmt: skip
        return
    columns, no_bias = plan.all_columns(pattern)
    bands = plan.column_bands(pattern, tile, 1)
    if bands is not None:
        tape.call(
            banded.forward_kernel(tile, False, False),
            take(tape, values, bands.source), *bands.arrays, bands.parts, columns[:0], dy, no_bias,
            out, batch,
        )  # fmt: skip
        return
    transposed = pattern.transposed
    tape.call(
        forward_kernel(1, tile, transposed.index, False, False, False),
        take(tape, values, transposed.source), transposed.rows, transposed.indptr, columns,
        columns[:0], dy, no_bias, out, plan.column_bounds(pattern, 1), batch,
    )  # fmt: skip


def grad_values(
    tape: Tape, pattern: Pattern, x: Array, dy: Array, out: Array, bias_out: Array, threads: int
) -> None:
    """Write dy x^T at active weights to `out`; an empty `bias_out` is left."""
    tiles, _, tile = dy.shape
    batch = tiles * tile
    if plan.useful_threads(threads, pattern.size * batch) > 1:
        run = unchecked.grad_values(pattern, tile, batch, threads)
        tape.do(functools.partial(run, x, dy, out, bias_out))
        return
    out[pattern.size :] = 0  # and they stay so
    bands = plan.value_bands(pattern, tile, 1)
    if bands is not None:
        tape.call(
            banded.dots_kernel(tile, False),
            *bands.arrays, bands.parts, pattern.absent, x, dy, out, bias_out,
        )  # fmt: skip
        return
    together = plan.tiles_together(pattern, tile)
    tape.call(
        dots_kernel(pattern.group, tile, together, pattern.index, pattern.tail, False),
        pattern.columns, pattern.indptr, pattern.rows, pattern.absent, x, dy, out, bias_out,
        plan.row_bounds(pattern, 1),
    )  # fmt: skip


def take(tape: Tape, values: Array, source: NDArray[np.int64] | NDArray[np.int32]) -> Array:
    """Return where values[source] will lie."""
    out = zeros(source.size)
    tape.call(take_kernel(source.dtype.name, False), values, source, out, 1)
    return out
