"""Product with one sample by table lookup, where AVX-512 has an instruction for it.

Reading numbers of x one by one limits `gemv` for rows of their own columns. Here x is looked at
through windows of 32 columns, which fill two vector registers, and one instruction looks up 16
numbers of them. Rows are taken 16 at a time, a lane each: of each window every row gives its first
`depth` weights, and what it has beyond that is gathered as before. The weights are a copy in that
order, which has to be refreshed when values change: worth it where many samples pass between two
changes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from sparse_core.kernels import isa, plan
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.gemv import dot
from sparse_core.kernels.jit import kernel
from sparse_core.kernels.simd import F32, I32, Lanes, at, const, loop

_WINDOW = 32  # columns: two registers of 16
_ROWS = 16
_MOST = 8  # weights that a row may give of a window

# Cost of a lookup of 16 numbers in units of gathering one: measured, and not critical.
_LOOKUP_COST = 3.5


def _depth(ranks: NDArray[np.int64], windows: int, blocks: int) -> int:
    """Return how many weights each row gives of a window; 0 if lookup does not pay."""
    having = np.bincount(np.minimum(ranks, _MOST), minlength=_MOST + 1)
    beyond = ranks.size - np.concatenate([[0], np.cumsum(having[:_MOST])])
    costs = beyond + _LOOKUP_COST * windows * blocks * np.arange(_MOST + 1)
    return int(np.argmin(costs))


class Lookup:
    """The weights of a pattern in the order of `gemv` by table lookup.

    Attributes:
        pattern: The pattern.
        depth: Weights a row gives of each window; what rows have beyond them is gathered.
    """

    def __init__(self, pattern: Pattern) -> None:
        """Build the order of a pattern's weights.

        Args:
            pattern: A pattern for which `suits` holds.
        """
        self.pattern = pattern
        features, groups = pattern.in_features, pattern.groups
        windows = -(-features // _WINDOW)
        starts = np.minimum(np.arange(windows) * _WINDOW, features - _WINDOW)
        row = np.repeat(np.arange(groups), np.diff(pattern.indptr))
        window = pattern.columns.astype(np.int64) // _WINDOW
        key = row * windows + window
        begins = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        lengths = np.diff(np.concatenate([begins, [key.size]]))
        rank = np.arange(key.size) - np.repeat(begins, lengths)
        blocks = -(-groups // _ROWS)
        self.depth = _depth(rank, windows, blocks)
        near = rank < self.depth
        lane = row % _ROWS
        place = ((row // _ROWS * windows + window) * self.depth + rank) * _ROWS + lane
        size = blocks * windows * self.depth * _ROWS
        self._near, self._place = np.flatnonzero(near), place[near]
        self._offsets = np.zeros(size, np.uint8)
        self._offsets[self._place] = (pattern.columns - starts[window])[near]
        used = np.zeros(size, np.bool_)
        used[self._place] = True
        self._masks = np.packbits(used, bitorder="little").view("<u2").astype(np.uint16)
        self._weights = np.zeros(size, np.float32)
        self._starts = starts.astype(np.int64)
        self._far = np.flatnonzero(~near)
        self._far_columns = pattern.columns[self._far]
        counts = np.bincount(row[self._far], minlength=groups)
        self._far_indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._far_weights = np.zeros(self._far.size, np.float32)

    @staticmethod
    def suits(pattern: Pattern) -> bool:
        """Return whether a pattern and this machine allow lookup at all."""
        return (
            isa.host() == isa.AVX512 and pattern.group == 1 and pattern.in_features >= _WINDOW
            and pattern.slots > 0
        )  # fmt: skip

    def refresh(self, values: NDArray[np.float32]) -> None:
        """Copy the values, (capacity,) float32; call it whenever they have changed."""
        self._weights[self._place] = values[self._near]
        self._far_weights[:] = values[self._far]

    def gemv(
        self,
        x: NDArray[np.float32],
        bias: NDArray[np.float32] | None = None,
        *,
        relu: bool = False,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Compute W x + b for one sample, with the values of the last `refresh`."""
        raise NotImplementedError


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def lookup_rows(
    typing_context: Any, DEPTH: Any, weights: Any, offsets: Any, masks: Any, starts: Any,
    windows: Any, x: Any, out: Any,
) -> Any:  # fmt: skip
    """Write the sums of 16 rows over the looked-up weights of all windows to out."""
    signature = types.void(DEPTH, weights, offsets, masks, starts, types.intp, x, out)
    depth = DEPTH.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, weights, offsets, masks, starts, windows, x, out = arguments
        v = Lanes(builder, _ROWS)
        bytes_, integers = ir.VectorType(ir.IntType(8), _ROWS), ir.VectorType(I32, _ROWS)
        bits = ir.VectorType(ir.IntType(1), _ROWS)
        permute = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(v.type, [v.type, integers, v.type]),
            "llvm.x86.avx512.vpermi2var.ps.512",
        )
        sums = [cgutils.alloca_once_value(builder, v.zero) for _ in range(depth)]
        with loop(builder, const(0), windows) as w:
            window = builder.gep(x, [builder.load(builder.gep(starts, [w]))])
            low, high = v.load(window), v.load(window, _ROWS)
            for s in range(depth):
                slot = builder.add(builder.mul(w, const(depth)), const(s))
                lane = builder.mul(slot, const(_ROWS))
                packed = builder.bitcast(builder.gep(offsets, [lane]), bytes_.as_pointer())
                index = builder.zext(builder.load(packed, align=1), integers)
                numbers = builder.call(permute, [low, index, high])
                mask = builder.bitcast(builder.load(builder.gep(masks, [slot])), bits)
                total = builder.load(sums[s])
                added = v.fma(v.load(weights, lane), numbers, total)
                builder.store(builder.select(mask, added, total), sums[s])
        total = builder.load(sums[0])
        for s in sums[1:]:
            total = builder.fadd(total, builder.load(s))
        v.store(total, out)
        return context.get_dummy_value()

    return signature, codegen
