"""How the work of a kernel is cut for threads, and what is derived from a pattern for that.

Results are kept with the pattern. A change of topology makes a new pattern, so nothing here is
ever out of date.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import bands, isa
from sparse_core.kernels.bands import Bands
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.threads import available

GATHER_LIMIT = 1 << 23
"""Weights up to which a transposed index (6 to 8 bytes a weight) is built of one's own accord."""

_BAND_VECTORS = 4
_LARGE_TILE = 256 << 10  # bytes
_RANGE_SLOTS = 24  # of a group
_TWO_TILES = 512 << 10  # bytes of each
_WORK = 1 << 15  # multiply-adds that are worth a thread

T = TypeVar("T")


def useful_threads(threads: int, work: int) -> int:
    """Return how many threads to use for `work` multiply-adds, at most `threads`.

    Raises:
        ValueError: If `threads` is below one.
    """
    if threads == 1:
        return 1
    return max(1, min(available(threads), work // _WORK))


def parts(tiles: int, threads: int) -> int:
    """Return into how many parts each tile is cut so that threads get equal work."""
    return 1 if tiles % threads == 0 else threads


def gathers(pattern: Pattern) -> bool:
    """Return whether the input's gradient is computed through a transposed index."""
    return pattern.group == 1 and pattern.slots <= GATHER_LIMIT


def keep(pattern: Pattern, key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """Return what `make` makes, which is called once for a pattern and a key."""
    if key not in pattern.plans:
        pattern.plans[key] = make()
    found: T = pattern.plans[key]
    return found


def _balanced(indptr: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Return (parts + 1,) bounds of rows that hold equal numbers of slots."""
    rows = indptr.size - 1
    if parts == 1:
        return np.array([0, rows])
    weights = indptr + np.arange(rows + 1)  # an empty row is some work, too
    targets = weights[-1] * np.arange(1, parts) // parts
    inner = np.searchsorted(weights, targets).astype(np.int64)
    return np.concatenate([[0], inner, [rows]]).astype(np.int64)


def row_bounds(pattern: Pattern, parts: int) -> NDArray[np.int64]:
    """Return (parts + 1,) int64 bounds that cut the stored groups into equal work."""
    return keep(pattern, ("rows", parts), lambda: _balanced(pattern.indptr, parts))


def column_bounds(pattern: Pattern, parts: int) -> NDArray[np.int64]:
    """Return (parts + 1,) int64 bounds that cut the columns into equal work."""

    def make() -> NDArray[np.int64]:
        if parts == 1:
            return np.array([0, pattern.in_features])
        counts = np.bincount(pattern.columns, minlength=pattern.in_features)
        return _balanced(np.append(0, np.cumsum(counts)), parts)

    return keep(pattern, ("columns", parts), make)


def row_bands(pattern: Pattern, tile: int, parts: int) -> Bands | None:
    """Return the bands of products with a pattern, or None where bands do not pay.

    Args:
        pattern: The pattern.
        tile: Samples of a tile.
        parts: Parts of equal work that the rows are cut into.
    """
    shape = pattern.in_features, pattern.groups
    width = keep(pattern, ("row width", tile), lambda: _width(pattern, *shape, tile))
    if width is None:
        return None
    return keep(
        pattern,
        ("row bands", tile, parts),
        lambda: bands.of_rows(pattern, width, tile, row_bounds(pattern, parts)),
    )


def value_bands(pattern: Pattern, tile: int, parts: int) -> Bands | None:
    """Return the bands of gradients of values: those of `row_bands`, or None where none pay.

    Sixteen products share a horizontal sum, so rows of fewer weights in a band lose what the cache
    gives unless tiles are large, and one band alone gives nothing.
    """
    found = row_bands(pattern, tile, parts)

    def pay() -> bool:
        if found is None or found.width >= pattern.in_features:
            return False
        a_row = pattern.slots * found.width / (pattern.groups * pattern.in_features)
        large = pattern.in_features * tile * 4 >= _LARGE_TILE
        return large or a_row >= isa.host().dots(tile)

    return found if keep(pattern, ("value bands pay", tile), pay) else None


def tiles_together(pattern: Pattern, tile: int) -> int:
    """Return how many tiles share a horizontal sum in gradients of values.

    Two halve the cost of the sums, but more of x has to lie in the cache: rows that share their
    columns read x less often for it.
    """
    if pattern.group == 1 or tile < isa.host().tiles[-1]:
        return 1
    return 2 if pattern.group > 2 or pattern.in_features * tile * 4 <= _TWO_TILES else 1


def sums_apart(pattern: Pattern, tiles: int, together: int, batch: int, threads: int) -> int | None:
    """Return how many sums of gradients of values are kept apart if threads share out the tiles.

    Args:
        pattern: The pattern.
        tiles: Tiles of a batch.
        together: Tiles that share a horizontal sum.
        batch: Samples.
        threads: Threads.

    Returns:
        All but the first thread's; None where threads had better share out the rows: tiles cannot
        be shared out equally, a short last group sums each tile by itself, or the sums are more to
        pass between cores than inputs are.
    """
    units = tiles // together
    if threads == 1 or tiles % (threads * together) or (pattern.tail and together > 1):
        return None
    apart = units - units // threads
    passed = batch * (pattern.in_features + pattern.out_features // threads)
    return apart if apart * pattern.size <= passed else None


def column_bands(pattern: Pattern, tile: int, parts: int) -> Bands | None:
    """Return the bands of products with the transpose of a pattern, as `row_bands`."""
    shape = pattern.out_features, pattern.in_features
    width = keep(pattern, ("column width", tile), lambda: _width(pattern, *shape, tile))
    if width is None:
        return None
    return keep(
        pattern,
        ("column bands", tile, parts),
        lambda: bands.of_columns(pattern, width, tile, column_bounds(pattern, parts)),
    )


def _width(pattern: Pattern, features: int, rows: int, tile: int) -> int | None:
    """Return the width of bands for products that read `features`, None without bands.

    Bands need rows of their own columns, and tiles of at least four vectors: on smaller ones, a
    row's one sum a vector would wait for itself.
    """
    machine = isa.host()
    if pattern.group > 1 or tile < _BAND_VECTORS * machine.lanes or pattern.slots >= 1 << 31:
        return None
    return bands.width_of(features, pattern.slots, rows, tile)


def all_columns(pattern: Pattern) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the columns in order, (in,) int32, and (in,) float32 zeros."""
    n = pattern.in_features
    return keep(
        pattern, ("inputs",), lambda: (np.arange(n, dtype=np.int32), np.zeros(n, np.float32))
    )


def zeros(pattern: Pattern) -> NDArray[np.float32]:
    """Return (out,) float32 zeros, in place of a bias."""
    return keep(pattern, ("bias",), lambda: np.zeros(pattern.out_features, np.float32))


def scattered_parts(pattern: Pattern, tile: int, parts: int) -> int:
    """Return how many ranges of columns products with the transpose that add go over.

    With pairs of rows each multiply-add loads half a vector of the result, and a tile of a wide
    result lies in no near cache: ranges that do are worth reading the pairs anew. Rows of larger
    groups do more with what they load, and few slots of a range cost more than they save.

    Args:
        pattern: The pattern.
        tile: Samples of a tile.
        parts: Least number of ranges.
    """
    wanted = -(-pattern.in_features * tile * 4 // _LARGE_TILE)
    if pattern.group != 2 or pattern.slots < wanted * _RANGE_SLOTS * pattern.groups:
        return parts
    return parts * -(-wanted // parts)


def column_splits(pattern: Pattern, parts: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return where each group's columns enter each of `parts` equal ranges of columns.

    Returns:
        Slots (parts + 1, groups) int32, counted from the group's first, and the ranges' bounds
        (parts + 1,) int64.
    """

    def make() -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        edges = np.arange(parts + 1, dtype=np.int64) * pattern.in_features // parts
        splits = np.empty((parts + 1, pattern.groups), np.int32)
        _splits_kernel(pattern.index)(pattern.columns, pattern.indptr, edges, splits)
        return splits, edges

    return keep(pattern, ("splits", parts), make)


@once
def _splits_kernel(index: str) -> Any:
    """Return the kernel of `column_splits`: binary search in each group."""

    @kernel(f"void({index}[::1], int64[::1], int64[::1], int32[:, ::1])")
    def find_splits(columns, indptr, edges, splits):
        for i in range(indptr.size - 1):
            start, stop = indptr[i], indptr[i + 1]
            splits[0, i] = 0
            splits[edges.size - 1, i] = stop - start
            for part in range(1, edges.size - 1):
                low, high = start, stop
                while low < high:
                    middle = (low + high) // 2
                    if columns[middle] < edges[part]:
                        low = middle + 1
                    else:
                        high = middle
                splits[part, i] = low - start

    return find_splits
