"""Condensed embeddings: the active weights of tokens put into their columns, and the gradient."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# mypy: no-check-untyped-defs
# Kernels have the types of their Triton signatures.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def look_up(tokens, values, columns, indptr, out, size, SLOTS: tl.constexpr):
    """Write the active weights of one token to its row of `out`, which is zero before."""
    place = tl.program_id(0)
    token = tl.load(tokens + place)
    begin, end = tl.load(indptr + token), tl.load(indptr + token + 1)
    for slot in range(begin, end, SLOTS):
        places = slot + tl.arange(0, SLOTS)
        among = places < end
        column = tl.load(columns + places, mask=among, other=0)
        weight = tl.load(values + places, mask=among, other=0.0)
        tl.store(out + place * size + column, weight, mask=among)


@triton.jit
def look_up_gradients(order, bounds, columns, indptr, dy, dvalues, size, SLOTS: tl.constexpr):
    """Add up the gradients of one token's weights over its occurrences, in their order.

    Occurrences of token t are `order[bounds[t]:bounds[t + 1]]`; `dvalues` is zero before.
    """
    token = tl.program_id(0)
    low, high = tl.load(bounds + token), tl.load(bounds + token + 1)
    if low < high:
        begin, end = tl.load(indptr + token), tl.load(indptr + token + 1)
        for slot in range(begin, end, SLOTS):
            places = slot + tl.arange(0, SLOTS)
            among = places < end
            column = tl.load(columns + places, mask=among, other=0)
            sums = tl.zeros((SLOTS,), dtype=tl.float32)
            for n in range(low, high):
                row = tl.load(order + n)
                sums += tl.load(dy + row * size + column, mask=among, other=0.0).to(tl.float32)
            tl.store(dvalues + places, sums.to(dvalues.dtype.element_ty), mask=among)
