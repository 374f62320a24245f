"""Kernels made ready for a pattern: what `checked` calls after its checks, and chains without them.

Each function finds, once for a pattern, what its kernel needs beside the arrays, and returns a
function of the arrays. Those must be float32, C-contiguous, aligned, and of the shapes that
`checked` says: nothing is checked here, and a wrong one is written beyond its end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import banded, plan
from sparse_core.kernels.arguments import tile_size
from sparse_core.kernels.backward import (
    dots_kernel,
    rows_scatter_kernel,
    scatter_kernel,
    split_dots_kernel,
)
from sparse_core.kernels.bands import Bands
from sparse_core.kernels.buffers import Array, empty
from sparse_core.kernels.elementwise import elementwise_kernel
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.forward import forward_kernel, rows_forward_kernel
from sparse_core.kernels.gemv import gemv_kernel, one_sample_kernel
from sparse_core.kernels.pack import pack_kernel, unpack_kernel
from sparse_core.kernels.take import copier, taker
from sparse_core.kernels.threads import team

Ready = Callable[..., None]


def pack(x: Array, out: Array, threads: int) -> None:
    """Bring rows, (batch, features), into blocks, (tiles, features, tile)."""
    threads = plan.useful_threads(threads, x.size)
    with team(threads):
        run = pack_kernel(out.shape[2], threads > 1)
        run(x, out, plan.parts(out.shape[0], threads))


def unpack(blocked: Array, out: Array, threads: int) -> None:
    """Bring blocks back into rows."""
    threads = plan.useful_threads(threads, blocked.size)
    with team(threads):
        run = unpack_kernel(blocked.shape[2], threads > 1)
        run(blocked, out, plan.parts(blocked.shape[0], threads))


def forward(pattern: Pattern, tiles: int, tile: int, batch: int, relu: bool, threads: int) -> Ready:
    """Return W x + b, with ReLU or without, of (values, x, bias, out, batch)."""
    threads = plan.useful_threads(threads, pattern.size * batch)
    chunks = plan.parts(tiles, threads)

    def make() -> Ready:
        bands = plan.row_bands(pattern, tile, chunks)
        if bands is not None:
            return _by_bands(bands, tile, relu, pattern.absent, threads)
        run = forward_kernel(pattern.group, tile, pattern.index, relu, pattern.tail, threads > 1)
        index = pattern.columns, pattern.indptr, pattern.rows, pattern.absent
        bounds = plan.row_bounds(pattern, chunks)

        def ready(values: Array, x: Array, bias: Array, out: Array, batch: int) -> None:
            with team(threads):
                run(values, *index, x, bias, out, bounds, batch)

        return ready

    return plan.keep(pattern, ("forward", tile, relu, threads, chunks), make)


def _by_bands(
    bands: Bands, tile: int, relu: bool, absent: NDArray[np.int32], threads: int
) -> Ready:
    """Return `forward` band after band."""
    run, order = banded.forward_kernel(tile, relu, threads > 1), bands.arrays

    def ready(values: Array, x: Array, bias: Array, out: Array, batch: int) -> None:
        with team(threads):
            run(values, *order, bands.parts, absent, x, bias, out, batch)

    return ready


def gemv(pattern: Pattern, relu: bool, threads: int) -> Ready:
    """Return W x + b of one sample, with ReLU or without, of (values, x, bias, out)."""
    threads = plan.useful_threads(threads, pattern.size)

    def make() -> Ready:
        run = gemv_kernel(pattern.group, pattern.index, relu, pattern.tail, threads > 1)
        index = pattern.columns, pattern.indptr, pattern.rows, pattern.absent
        bounds = plan.row_bounds(pattern, threads)

        def ready(values: Array, x: Array, bias: Array, out: Array) -> None:
            run(values, *index, x, bias, out, bounds)

        def together(values: Array, x: Array, bias: Array, out: Array) -> None:
            with team(threads):
                ready(values, x, bias, out)

        return ready if threads == 1 else together

    return plan.keep(pattern, ("gemv", relu, threads), make)


def one_sample(pattern: Pattern, values: Array, bias: Array, relu: bool) -> Ready:
    """Return W x + b of one sample on one thread, of (address of x, out), out being (1, out).

    It writes the numbers of `gemv`, knows the arrays by their addresses, and does not keep them.
    """
    run = one_sample_kernel(pattern.group, pattern.index, relu, pattern.tail)
    arrays = values, pattern.columns, pattern.indptr, pattern.rows, pattern.absent, bias
    sizes = pattern.in_features, values.size, pattern.slots, pattern.groups, pattern.absent.size
    table = np.array([*sizes, *(array.ctypes.data for array in arrays)], np.int64)
    return functools.partial(run, table)


def grad_input(
    pattern: Pattern, tiles: int, tile: int, batch: int, gather: bool, threads: int
) -> Ready:
    """Return W^T dy of (values, dy, out, batch), through a transposed index if `gather`."""
    threads = plan.useful_threads(threads, pattern.size * batch)
    chunks = plan.parts(tiles, threads)

    def gathering() -> Ready:
        columns, no_bias = plan.all_columns(pattern)
        bands = plan.column_bands(pattern, tile, chunks)
        if bands is not None:
            multiply = _by_bands(bands, tile, False, columns[:0], threads)
            take = taker(bands.source, threads)

            def gathered(values: Array, dy: Array, out: Array, batch: int) -> None:
                multiply(take(values), dy, no_bias, out, batch)

            return gathered
        transposed = pattern.transposed
        run = forward_kernel(1, tile, transposed.index, False, False, threads > 1)
        index = transposed.rows, transposed.indptr, columns, columns[:0]
        bounds, take = plan.column_bounds(pattern, chunks), taker(transposed.source, threads)

        def ready(values: Array, dy: Array, out: Array, batch: int) -> None:
            by_column = take(values)
            with team(threads):
                run(by_column, *index, dy, no_bias, out, bounds, batch)

        return ready

    def scattering() -> Ready:
        run = scatter_kernel(pattern.group, tile, pattern.index, pattern.tail, threads > 1)
        index = pattern.columns, pattern.indptr, pattern.rows
        ranges = plan.scattered_parts(pattern, tile, chunks)
        splits, edges = plan.column_splits(pattern, ranges)

        def ready(values: Array, dy: Array, out: Array, batch: int) -> None:
            with team(threads):
                run(values, *index, dy, out, splits, edges)

        return ready

    key = "gather" if gather else "scatter", tile, threads, chunks
    return plan.keep(pattern, key, gathering if gather else scattering)


def grad_values(pattern: Pattern, tile: int, batch: int, threads: int) -> Ready:
    """Return dy x^T at active weights of (x, dy, out, bias_out); an empty `bias_out` is left."""
    threads = plan.useful_threads(threads, pattern.size * batch)
    tiles = -(-batch // tile)

    def by_bands(bands: Bands, apart: int | None) -> Ready:
        order, size, absent = bands.arrays, pattern.size, pattern.absent
        if apart is not None:
            return _apart(pattern.size, banded.split_dots_kernel(tile), order, apart, threads)
        run = banded.dots_kernel(tile, threads > 1)

        def ready(x: Array, dy: Array, out: Array, bias_out: Array) -> None:
            if out.size > size:
                out[size:] = 0
            with team(threads):
                run(*order, bands.parts, absent, x, dy, out, bias_out)

        return ready

    def make() -> Ready:
        banded_apart = plan.sums_apart(pattern, tiles, 1, batch, threads)
        bands = plan.value_bands(pattern, tile, threads if banded_apart is None else 1)
        if bands is not None:
            return by_bands(bands, banded_apart)
        together = plan.tiles_together(pattern, tile)
        shape = pattern.group, tile, together, pattern.index, pattern.tail
        index = pattern.columns, pattern.indptr, pattern.rows, pattern.absent
        apart = plan.sums_apart(pattern, tiles, together, batch, threads)
        if apart is not None:
            return _apart(pattern.size, split_dots_kernel(*shape), index[:3], apart, threads)
        run = dots_kernel(*shape, threads > 1)
        bounds, size = plan.row_bounds(pattern, threads), pattern.size

        def ready(x: Array, dy: Array, out: Array, bias_out: Array) -> None:
            if out.size > size:
                out[size:] = 0
            with team(threads):
                run(*index, x, dy, out, bias_out, bounds)

        return ready

    return plan.keep(pattern, ("dots", tile, tiles, threads), make)


def _apart(
    size: int, run: Ready, index: tuple[NDArray[Any], ...], apart: int, threads: int
) -> Ready:
    """Return `grad_values` by a kernel that shares out tiles and keeps `apart` sums apart."""

    def ready(x: Array, dy: Array, out: Array, bias_out: Array) -> None:
        if out.size > size:
            out[size:] = 0
        others, sums = empty(apart, size), empty(x.shape[0], bias_out.size)
        with team(threads):
            run(*index, x, dy, out[:size], bias_out, others, sums, threads)

    return ready


def elementwise(name: str, first: Array, second: Array, out: Array, threads: int) -> None:
    """Apply a function of `sparse_core.kernels.elementwise.NAMES`; `out` may be an input."""
    threads = plan.useful_threads(threads, 4 * out.size)
    with team(threads):
        run = elementwise_kernel(name, threads > 1)
        run(first.reshape(-1), second.reshape(-1), out.reshape(-1), threads)


def rows_forward(
    pattern: Pattern,
    values: Array,
    x: Array,
    bias: Array,
    relu: bool,
    out: Array,
    keep: bool,
    threads: int,
) -> Array:
    """Write W x + b of rows to `out`; return packed x, of which only one tile is there if not kept.

    A tile is packed, multiplied and unpacked while it is in the cache.
    """
    batch, features = x.shape
    tile = tile_size(batch)
    tiles = -(-batch // tile)
    threads = plan.useful_threads(threads, pattern.size * batch)
    if tiles % threads:
        packed, y = empty(tiles, features, tile), empty(tiles, pattern.out_features, tile)
        pack(x, packed, threads)
        forward(pattern, tiles, tile, batch, relu, threads)(values, packed, bias, y, batch)
        unpack(y, out, threads)
        return packed
    packed = empty(tiles if keep else threads, features, tile)
    scratch = empty(threads, pattern.out_features, tile)
    _rows_forward(pattern, tile, relu, threads)(values, x, bias, out, packed, scratch)
    return packed


def _rows_forward(pattern: Pattern, tile: int, relu: bool, threads: int) -> Ready:
    """Return W x + b of rows, of (values, x, bias, out, packed, scratch)."""

    def make() -> Ready:
        parallel, absent = threads > 1, pattern.absent
        bands = plan.row_bands(pattern, tile, 1)
        if bands is not None:
            return _rows_by_bands(bands, tile, relu, absent, threads)
        run = rows_forward_kernel(pattern.group, tile, pattern.index, relu, pattern.tail, parallel)
        index = pattern.columns, pattern.indptr, pattern.rows, absent

        def ready(values: Array, *arrays: Array) -> None:
            with team(threads):
                run(values, *index, *arrays, 0)

        return ready

    return plan.keep(pattern, ("rows forward", tile, relu, threads), make)


def _rows_by_bands(
    bands: Bands, tile: int, relu: bool, absent: NDArray[np.int32], threads: int
) -> Ready:
    """Return `_rows_forward` band after band; one copy of values a thread is (threads, n)."""
    run, order = banded.rows_forward_kernel(tile, relu, threads > 1), bands.arrays

    def ready(values: Array, *arrays: Array) -> None:
        copy = values.shape[1] if values.ndim == 2 else 0
        with team(threads):
            run(values.reshape(-1), *order, absent, *arrays, copy)

    return ready


def rows_grad_input(
    pattern: Pattern, values: Array, dy: Array, tile: int, out: Array, threads: int
) -> Array:
    """Write W^T dy of rows to `out`; return packed dy."""
    batch, features = dy.shape
    tiles = -(-batch // tile)
    threads = plan.useful_threads(threads, pattern.size * batch)
    packed = empty(tiles, features, tile)
    gather = plan.gathers(pattern)
    if tiles % threads:
        dx = empty(tiles, pattern.in_features, tile)
        pack(dy, packed, threads)
        grad_input(pattern, tiles, tile, batch, gather, threads)(values, packed, dx, batch)
        unpack(dx, out, threads)
        return packed
    scratch = empty(threads, pattern.in_features, tile)
    if gather:
        _rows_gather(pattern, tile, threads)(values, dy, out, packed, scratch)
        return packed
    splits, edges = plan.column_splits(pattern, plan.scattered_parts(pattern, tile, 1))
    run = rows_scatter_kernel(pattern.group, tile, pattern.index, pattern.tail, threads > 1)
    index = pattern.columns, pattern.indptr, pattern.rows
    with team(threads):
        run(values, *index, dy, out, splits, edges, packed, scratch)
    return packed


def _rows_gather(pattern: Pattern, tile: int, threads: int) -> Ready:
    """Return W^T dy of rows through a transposed index, of (values, dy, out, packed, scratch)."""

    def make() -> Ready:
        columns, no_bias = plan.all_columns(pattern)
        bands = plan.column_bands(pattern, tile, 1)
        source = pattern.transposed.source if bands is None else bands.source
        take = copier(source, threads) or taker(source, threads)
        if bands is not None:
            multiply = _rows_by_bands(bands, tile, False, columns[:0], threads)
        else:
            transposed = pattern.transposed
            run = rows_forward_kernel(1, tile, transposed.index, False, False, threads > 1)
            index = transposed.rows, transposed.indptr, columns, columns[:0]

            def multiply(values: Array, *arrays: Array) -> None:
                copy = values.shape[1] if values.ndim == 2 else 0
                with team(threads):
                    run(values.reshape(-1), *index, *arrays, copy)

        def ready(values: Array, dy: Array, out: Array, packed: Array, scratch: Array) -> None:
            multiply(take(values), dy, no_bias, out, packed, scratch)

        return ready

    return plan.keep(pattern, ("rows gather", tile, threads), make)
