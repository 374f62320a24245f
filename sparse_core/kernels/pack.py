"""Between rows of samples and the blocked layout.

Blocked means (tiles, features, tile): the `tile` samples of a tile lie side by side for each
feature, so that a weight multiplies a whole vector of samples. Samples that the last tile has in
excess are zeros.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import prange

from sparse_core.kernels import isa
from sparse_core.kernels.jit import kernel
from sparse_core.kernels.simd import at, transpose_block


@cache
def pack_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel that packs (batch, features) into (tiles, features, tile).

    Args:
        tile: Samples of a tile.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (x, out, chunks), where `chunks` is the number of parts of each tile.
    """
    lanes = isa.host().vector(tile)

    @kernel("void(float32[:, ::1], float32[:, :, ::1], int64)", (tile,), parallel=parallel)
    def pack(x, out, chunks):  # type: ignore[no-untyped-def]
        batch, features = x.shape
        squares = features // lanes
        for task in prange(out.shape[0] * chunks):
            t, chunk = task // chunks, task % chunks
            first, last = squares * chunk // chunks, squares * (chunk + 1) // chunks
            stop = features if chunk == chunks - 1 else last * lanes
            valid = min(tile, batch - t * tile)
            whole = valid // lanes * lanes
            for s in range(0, whole, lanes):
                for q in range(first, last):
                    transpose_block(
                        lanes,
                        at(x, (t * tile + s) * features + q * lanes), features,
                        at(out, (t * features + q * lanes) * tile + s), tile,
                    )  # fmt: skip
            for j in range(last * lanes, stop):
                for s in range(whole):
                    out[t, j, s] = x[t * tile + s, j]
            for j in range(first * lanes, stop):
                for s in range(whole, valid):
                    out[t, j, s] = x[t * tile + s, j]
                for s in range(valid, tile):
                    out[t, j, s] = 0

    return pack


@cache
def unpack_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel that unpacks (tiles, features, tile) into (batch, features).

    Args:
        tile: Samples of a tile.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (x, out, chunks), where `chunks` is the number of parts of each tile.
    """
    lanes = isa.host().vector(tile)

    @kernel("void(float32[:, :, ::1], float32[:, ::1], int64)", (tile,), parallel=parallel)
    def unpack(x, out, chunks):  # type: ignore[no-untyped-def]
        batch, features = out.shape
        squares = features // lanes
        for task in prange(x.shape[0] * chunks):
            t, chunk = task // chunks, task % chunks
            first, last = squares * chunk // chunks, squares * (chunk + 1) // chunks
            stop = features if chunk == chunks - 1 else last * lanes
            valid = min(tile, batch - t * tile)
            whole = valid // lanes * lanes
            for s in range(0, whole, lanes):
                for q in range(first, last):
                    transpose_block(
                        lanes,
                        at(x, (t * features + q * lanes) * tile + s), tile,
                        at(out, (t * tile + s) * features + q * lanes), features,
                    )  # fmt: skip
            for s in range(whole):
                for j in range(last * lanes, stop):
                    out[t * tile + s, j] = x[t, j, s]
            for s in range(whole, valid):
                for j in range(first * lanes, stop):
                    out[t * tile + s, j] = x[t, j, s]

    return unpack
