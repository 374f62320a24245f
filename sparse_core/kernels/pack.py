"""Between rows of samples and the blocked layout.

Blocked means (tiles, features, tile): the `tile` samples of a tile lie side by side for each
feature, so that a weight multiplies a whole vector of samples. Samples that the last tile has in
excess are zeros.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

from numba import prange

from sparse_core.kernels import isa
from sparse_core.kernels.jit import inlined, kernel, once
from sparse_core.kernels.simd import at, transpose_block


@once
def tile_packer(tile: int) -> Any:
    """Return a function that packs features `first` to `last` of one tile.

    It takes (x (batch, features), sample, valid, out, base, first, last): the tile's first sample
    and number of samples, and the flat array and place where the tile begins. `first` is a
    multiple of the vector length.
    """
    lanes = isa.host().vector(tile)

    @inlined
    def pack_tile(x, sample, valid, out, base, first, last):
        features = x.shape[1]
        square = first + (last - first) // lanes * lanes
        whole = valid // lanes * lanes
        for s in range(0, whole, lanes):
            for j in range(first, square, lanes):
                source = at(x, (sample + s) * features + j)
                transpose_block(lanes, source, features, at(out, base + j * tile + s), tile)
        for j in range(square, last):
            for s in range(whole):
                out[base + j * tile + s] = x[sample + s, j]
        for j in range(first, last):
            for s in range(whole, valid):
                out[base + j * tile + s] = x[sample + s, j]
            for s in range(valid, tile):
                out[base + j * tile + s] = 0

    return pack_tile


@once
def tile_unpacker(tile: int) -> Any:
    """Return a function that unpacks features `first` to `last` of one tile.

    It takes (x, base, out (batch, features), sample, valid, first, last), as `tile_packer`.
    """
    lanes = isa.host().vector(tile)

    @inlined
    def unpack_tile(x, base, out, sample, valid, first, last):
        features = out.shape[1]
        square = first + (last - first) // lanes * lanes
        whole = valid // lanes * lanes
        for s in range(0, whole, lanes):
            for j in range(first, square, lanes):
                target = at(out, (sample + s) * features + j)
                transpose_block(lanes, at(x, base + j * tile + s), tile, target, features)
        for s in range(whole):
            for j in range(square, last):
                out[sample + s, j] = x[base + j * tile + s]
        for s in range(whole, valid):
            for j in range(first, last):
                out[sample + s, j] = x[base + j * tile + s]

    return unpack_tile


@once
def pack_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel that packs (batch, features) into (tiles, features, tile).

    Args:
        tile: Samples of a tile.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (x, out, chunks), where `chunks` is the number of parts of each tile.
    """
    lanes, pack_tile = isa.host().vector(tile), tile_packer(tile)

    @kernel("void(float32[:, ::1], float32[:, :, ::1], int64)", parallel=parallel)
    def pack(x, out, chunks):
        batch, features = x.shape
        flat, squares = out.reshape(-1), features // lanes
        for task in prange(out.shape[0] * chunks):
            t, chunk = task // chunks, task % chunks
            first, last = squares * chunk // chunks * lanes, squares * (chunk + 1) // chunks * lanes
            valid = min(tile, batch - t * tile)
            stop = features if chunk == chunks - 1 else last
            pack_tile(x, t * tile, valid, flat, t * features * tile, first, stop)

    return pack


@once
def unpack_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel that unpacks (tiles, features, tile) into (batch, features).

    Args:
        tile: Samples of a tile.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (x, out, chunks), where `chunks` is the number of parts of each tile.
    """
    lanes, unpack_tile = isa.host().vector(tile), tile_unpacker(tile)

    @kernel("void(float32[:, :, ::1], float32[:, ::1], int64)", parallel=parallel)
    def unpack(x, out, chunks):
        batch, features = out.shape
        flat, squares = x.reshape(-1), features // lanes
        for task in prange(x.shape[0] * chunks):
            t, chunk = task // chunks, task % chunks
            first, last = squares * chunk // chunks * lanes, squares * (chunk + 1) // chunks * lanes
            valid = min(tile, batch - t * tile)
            stop = features if chunk == chunks - 1 else last
            unpack_tile(flat, t * features * tile, out, t * tile, valid, first, stop)

    return unpack
