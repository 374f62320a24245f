"""From rows of samples to rows of features, and back: a transposition by tiles."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# mypy: no-check-untyped-defs
# Kernels have the types of their Triton signatures.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def turn(source, out, height, width, source_row, source_column, SIDE: tl.constexpr):
    """Write the transpose of a (height, width) matrix, by the strides given, to `out`."""
    across = tl.cdiv(width, SIDE)
    row = tl.program_id(0) // across * SIDE + tl.arange(0, SIDE)
    column = tl.program_id(0) % across * SIDE + tl.arange(0, SIDE)
    mask = (row < height)[:, None] & (column < width)[None, :]
    tile = tl.load(source + row[:, None] * source_row + column[None, :] * source_column, mask=mask)
    tl.store(out + column[:, None] * height + row[None, :], tl.trans(tile), mask=tl.trans(mask))
