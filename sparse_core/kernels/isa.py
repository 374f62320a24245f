"""Vector width, registers and tile sizes of the machine that kernels are compiled for.

The kernels keep a tile of samples of a few output rows in vector registers. How many samples fit
follows from two numbers of the instruction set: lanes of float32 in a register, and registers.
`SPARSE_CORE_VECTOR_BITS` (128, 256 or 512) narrows the choice, for tests and comparisons.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

VECTOR_BITS_VARIABLE = "SPARSE_CORE_VECTOR_BITS"
"""Environment variable that narrows the vectors."""

_LATENCY_HIDING = 8  # sums in flight: two fused multiply-adds a cycle, four cycles each

_MOST_ROWS = 8  # of a group at once


@dataclass(frozen=True)
class Isa:
    """What the tile kernels need to know of an instruction set.

    Attributes:
        lanes: float32 lanes of a vector register: 4, 8 or 16.
        registers: Vector registers.
    """

    lanes: int
    registers: int

    @property
    def tiles(self) -> tuple[int, ...]:
        """Tile sizes of the blocked layout in samples, ascending.

        The largest is 64 with 16 lanes and 32 otherwise: four registers or more an output row,
        and a tile of a thousand features still fits the second-level cache.
        """
        return (8, 16, 32, 64) if self.lanes == 16 else (8, 16, 32)

    def vector(self, tile: int) -> int:
        """Return the lanes of the vectors used on a tile of `tile` samples."""
        return min(self.lanes, tile)

    def rows_together(self, group: int) -> int:
        """Return how many of a group's rows are computed at once: larger groups in parts."""
        return min(group, _MOST_ROWS)

    def register_tile(self, group: int, tile: int) -> int:
        """Return how many samples of `group` rows are summed in registers at once.

        Half of the registers hold sums, the others operands.
        """
        lanes = self.vector(tile)
        return min(tile, max(lanes, self.registers // 2 * lanes // group))

    def unroll(self, group: int, tile: int) -> int:
        """Return how many independent sums a row needs to hide the latency of its adds."""
        vectors = group * self.register_tile(group, tile) // self.vector(tile)
        return max(1, _LATENCY_HIDING // vectors)

    def dots(self, tile: int) -> int:
        """Return how many dot products of `tile` samples share one horizontal sum."""
        return max(8, self.vector(tile))


AVX512 = Isa(lanes=16, registers=32)
AVX = Isa(lanes=8, registers=16)
NEON = Isa(lanes=4, registers=32)
SSE = Isa(lanes=4, registers=16)


def widest(triple: str, features: str) -> Isa:
    """Return the widest instruction set of a target.

    Args:
        triple: LLVM target triple, such as `x86_64-unknown-linux-gnu`.
        features: LLVM features, such as `+avx2,-avx512f`.
    """
    on = set(features.split(","))
    if "+avx512f" in on and "+avx512vl" in on:
        return AVX512
    if "+avx" in on:
        return AVX
    return NEON if triple.startswith(("aarch64", "arm64")) else SSE


def cpu_features() -> str:
    """Return the LLVM features that Numba compiles for."""
    from numba import core

    numba_core: Any = core  # its types are incomplete
    configured = numba_core.config.CPU_FEATURES
    return str(numba_core.codegen.get_host_cpu_features() if configured is None else configured)


@cache
def host() -> Isa:
    """Return the instruction set that kernels are compiled for.

    Raises:
        ValueError: If `SPARSE_CORE_VECTOR_BITS` is not 128, 256 or 512, or more than there is.
    """
    from llvmlite import binding

    best = widest(binding.get_process_triple(), cpu_features())
    wanted = os.environ.get(VECTOR_BITS_VARIABLE, "").strip()
    if not wanted:
        return best
    narrow = NEON if best == NEON else SSE
    known = {"512": AVX512, "256": AVX, "128": narrow}
    if wanted not in known or known[wanted].lanes > best.lanes:
        raise ValueError(
            f"{VECTOR_BITS_VARIABLE} must be 128, 256 or 512 and at most {best.lanes * 32} "
            f"on this machine, got {wanted!r}"
        )
    return known[wanted]
