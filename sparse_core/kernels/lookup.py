"""Product with one sample by table lookup, where AVX-512 has an instruction for it.

Reading numbers of x one by one limits `gemv` for rows of their own columns. Here x is looked at
through windows of 32 columns, which fill two vector registers, and one instruction looks up 16
numbers of them. Rows are taken 16 at a time, a lane each: of each window every row gives its first
`depth` weights, and what it has beyond that is gathered as before. The weights are a copy in that
order, which has to be refreshed when values change: worth it where many samples pass between two
changes.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import types
from numpy.typing import NDArray

from sparse_core.kernels import isa, plan
from sparse_core.kernels.arguments import as_sample, as_values
from sparse_core.kernels.buffers import empty
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.gemv import dot
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.simd import I32, Lanes, at, cgutils, const, intrinsic, loop
from sparse_core.kernels.threads import team

_WINDOW = 32  # columns: two registers of 16
_ROWS = 16
_LARGEST = 1 << 22  # weights of a pattern that is looked at
_MOST = 8  # weights that a row may give of a window

# Cost of a lookup of 16 numbers in units of gathering one: measured, and not critical.
_LOOKUP_COST = 3.5


def _ranks(
    pattern: Pattern,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return window, row, and rank among the row's weights of the window, of each weight."""
    row = np.repeat(np.arange(pattern.groups), np.diff(pattern.indptr))
    window = pattern.columns.astype(np.int64) // _WINDOW
    begins = np.ones(row.size, np.bool_)
    begins[1:] = (row[1:] != row[:-1]) | (window[1:] != window[:-1])
    first = np.flatnonzero(begins)
    rank = np.arange(row.size) - np.repeat(first, np.diff(np.append(first, row.size)))
    return window, row, rank


def _depth(pattern: Pattern) -> int:
    """Return how many weights each row had best give of a window; 0 if lookup does not pay."""

    def best() -> int:
        _, _, rank = _ranks(pattern)
        windows, blocks = -(-pattern.in_features // _WINDOW), -(-pattern.groups // _ROWS)
        having = np.bincount(np.minimum(rank, _MOST), minlength=_MOST + 1)
        beyond = rank.size - np.concatenate([[0], np.cumsum(having[:_MOST])])
        return int(np.argmin(beyond + _LOOKUP_COST * windows * blocks * np.arange(_MOST + 1)))

    return plan.keep(pattern, ("lookup depth",), best)


@intrinsic
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


@once
def lookup_kernel(depth: int, index: str, relu: bool, parallel: bool) -> Any:
    """Return the kernel of y = act(W x + b) for one sample by table lookup.

    Args:
        depth: Weights that a row gives of each window.
        index: Name of the type of the gathered columns.
        relu: Whether max(., 0) is applied to the result.
        parallel: Whether chunks of rows run on Numba's threads.

    Returns:
        A function of (weights, offsets, masks, starts, far_values, far_columns, far_indptr, rows,
        absent, x, bias, out, chunks).
    """

    @kernel(
        "void(float32[::1], uint8[::1], uint16[::1], int64[::1], float32[::1], "
        f"{index}[::1], int64[::1], int32[::1], int32[::1], float32[::1], float32[::1], "
        "float32[::1], int64)",
        parallel=parallel,
    )
    def lookup(
        weights, offsets, masks, starts, far_values, far_columns, far_indptr, rows, absent, x,
        bias, out, chunks,
    ):  # fmt: skip
        windows, blocks = starts.size, (rows.size + _ROWS - 1) // _ROWS
        for chunk in prange(chunks):
            sums = np.empty(_ROWS, np.float32)
            for block in range(blocks * chunk // chunks, blocks * (chunk + 1) // chunks):
                slot = block * windows * depth
                lookup_rows(
                    depth, at(weights, slot * _ROWS), at(offsets, slot * _ROWS), at(masks, slot),
                    at(starts, 0), windows, at(x, 0), at(sums, 0),
                )  # fmt: skip
                for i in range(block * _ROWS, min(rows.size, block * _ROWS + _ROWS)):
                    far, row = far_indptr[i], rows[i]
                    n = far_indptr[i + 1] - far
                    beyond = dot(1, at(far_values, far), at(far_columns, far), n, at(x, 0))
                    total = bias[row] + sums[i - block * _ROWS] + beyond
                    out[row] = type(total)(0) if relu and total <= 0 else total
        for r in absent:
            constant = bias[r]
            out[r] = type(constant)(0) if relu and constant <= 0 else constant

    return lookup


@once
def _refresh_kernel() -> Any:
    """Return the kernel that copies values to their places: (values, source, place, out)."""

    @kernel("void(float32[::1], int32[::1], int32[::1], float32[::1])")
    def refresh(values, source, place, out):
        for i in range(source.size):
            out[place[i]] = values[source[i]]

    return refresh


class Lookup:
    """The weights of a pattern in the order of table lookup.

    Attributes:
        pattern: The pattern.
        depth: Weights that a row gives of each window.
    """

    def __init__(self, pattern: Pattern) -> None:
        """Order the weights of a pattern.

        Args:
            pattern: A pattern that `suits`.

        Raises:
            ValueError: If lookup is not possible or does not pay for this pattern.
        """
        if not self.suits(pattern):
            raise ValueError(f"lookup needs AVX-512 and a suitable pattern, got {pattern!r}")
        self.pattern = pattern
        self.depth = _depth(pattern)
        window, row, rank = _ranks(pattern)
        windows, blocks = -(-pattern.in_features // _WINDOW), -(-pattern.groups // _ROWS)
        self._starts = np.arange(windows) * _WINDOW
        self._starts[-1] = pattern.in_features - _WINDOW
        near = rank < self.depth
        place = ((row // _ROWS * windows + window) * self.depth + rank) * _ROWS + row % _ROWS
        self._source, self._place = np.flatnonzero(near).astype(np.int32), place[near].astype("i4")
        size = blocks * windows * self.depth * _ROWS
        self._offsets = np.zeros(size, np.uint8)
        self._offsets[self._place] = (pattern.columns - self._starts[window])[near]
        used = np.zeros(size, np.bool_)
        used[self._place] = True
        self._masks = np.packbits(used, bitorder="little").view("<u2").astype(np.uint16)
        self._weights = empty(size)
        self._weights[:] = 0
        self._far = np.flatnonzero(~near)
        self._far_columns = pattern.columns[self._far]
        counts = np.bincount(row[self._far], minlength=pattern.groups)
        self._far_indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._far_values = np.zeros(self._far.size, np.float32)

    @staticmethod
    def suits(pattern: Pattern) -> bool:
        """Return whether lookup is possible on this machine and pays for a pattern."""
        size = pattern.slots
        possible = isa.host() == isa.AVX512 and pattern.group == 1 and 0 < size <= _LARGEST
        return possible and pattern.in_features >= _WINDOW and _depth(pattern) > 0

    def refresh(self, values: NDArray[np.float32]) -> None:
        """Take over the values, (capacity,) float32; to be called whenever they have changed.

        Raises:
            ValueError: If `values` is too short.
            TypeError: If its dtype is wrong.
        """
        values = as_values(self.pattern, values)
        _refresh_kernel()(values, self._source, self._place, self._weights)
        self._far_values[:] = values[self._far]

    def gemv(
        self,
        x: NDArray[np.float32],
        bias: NDArray[np.float32] | None = None,
        *,
        relu: bool = False,
        out: NDArray[np.float32] | None = None,
        threads: int = 1,
    ) -> NDArray[np.float32]:
        """Compute W x + b for one sample, with the values of the last `refresh`.

        Arguments, result and errors are those of `checked.gemv`.
        """
        pattern = self.pattern
        x, bias, out = as_sample(pattern, x, bias, out)
        threads = plan.useful_threads(threads, pattern.size)
        run = plan.keep(
            pattern,
            ("lookup", relu, threads > 1),
            lambda: lookup_kernel(self.depth, pattern.index, relu, threads > 1),
        )
        with team(threads):
            run(
                self._weights, self._offsets, self._masks, self._starts, self._far_values,
                self._far_columns, self._far_indptr, pattern.rows, pattern.absent, x, bias, out,
                threads,
            )  # fmt: skip
        return out
