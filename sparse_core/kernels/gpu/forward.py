"""y = act(W x + b) of condensed layers: on the cores for small groups, on tensor cores for large.

A slot of a group costs one load of a vector of samples, whatever the number of rows that share it.

    products        groups of 1 to 8: multiply-adds in registers, several groups a program
    tile_products   groups of 8 to 32: the columns of a group are gathered once into a tile, which
                    is multiplied as if it were dense

Where a group has no weights its rows are act(b).
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# mypy: no-check-untyped-defs
# Kernels have the types of their Triton signatures.

from __future__ import annotations

import triton
import triton.language as tl

from sparse_core.kernels.gpu.activations import activated


@triton.jit
def products(
    values, columns, indptr, x, bias, y, z, batch, groups, rows,
    x_feature, x_sample, y_feature, y_sample,
    GROUP: tl.constexpr, GROUPS_AT_ONCE: tl.constexpr, PARTS: tl.constexpr,
    SAMPLES: tl.constexpr, UNROLL: tl.constexpr,
    ACTIVATION: tl.constexpr, HAS_BIAS: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """Compute `GROUPS_AT_ONCE * PARTS` groups of rows for `SAMPLES` samples.

    `values` is (slots, GROUP), `columns` (slots,), `indptr` (groups + 1,), `x` (in, batch), `y` and
    `z`, which gets y before the activation if `KEEP`, (rows, batch), by the strides given.
    """
    samples = tl.program_id(1) * SAMPLES + tl.arange(0, SAMPLES)
    here = samples < batch
    members = tl.arange(0, GROUP)
    first = tl.program_id(0) * (GROUPS_AT_ONCE * PARTS)
    for part in range(PARTS):
        lanes = first + part * GROUPS_AT_ONCE + tl.arange(0, GROUPS_AT_ONCE)
        begins = tl.load(indptr + lanes, mask=lanes < groups, other=0)
        lengths = tl.load(indptr + lanes + 1, mask=lanes < groups, other=0) - begins
        sums = tl.zeros((GROUPS_AT_ONCE, GROUP, SAMPLES), dtype=tl.float32)
        for slot in range(0, tl.max(lengths, 0), UNROLL):
            for step in tl.static_range(UNROLL):
                among = slot + step < lengths
                places = begins + slot + step
                column = tl.load(columns + places, mask=among, other=0)
                inputs = tl.load(
                    x + column[:, None] * x_feature + samples[None, :] * x_sample,
                    mask=among[:, None] & here[None, :],
                    other=0.0,
                ).to(tl.float32)
                weights = tl.load(
                    values + places[:, None] * GROUP + members[None, :],
                    mask=among[:, None],
                    other=0.0,
                ).to(tl.float32)
                sums += weights[:, :, None] * inputs[:, None, :]
        row = lanes[:, None] * GROUP + members[None, :]
        if HAS_BIAS:
            sums += tl.load(bias + row, mask=row < rows, other=0.0).to(tl.float32)[:, :, None]
        offsets = row[:, :, None] * y_feature + samples[None, None, :] * y_sample
        written = (row < rows)[:, :, None] & here[None, None, :]
        if KEEP:
            tl.store(z + offsets, sums.to(z.dtype.element_ty), mask=written)
        out = activated(sums, ACTIVATION)
        tl.store(y + offsets, out.to(y.dtype.element_ty), mask=written)


@triton.jit
def tile_products(
    values, columns, indptr, x, bias, y, z, batch, rows,
    x_feature, x_sample, y_feature, y_sample,
    GROUP: tl.constexpr, MEMBERS: tl.constexpr, SAMPLES: tl.constexpr, SLOTS: tl.constexpr,
    PRECISION: tl.constexpr,
    ACTIVATION: tl.constexpr, HAS_BIAS: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """Compute one group of rows for `SAMPLES` samples; arrays are those of `products`.

    `MEMBERS` is `GROUP`, or 16 where tensor cores need as many.
    """
    samples = tl.program_id(1) * SAMPLES + tl.arange(0, SAMPLES)
    lane = tl.program_id(0)
    here = samples < batch
    members = tl.arange(0, MEMBERS)
    begin, end = tl.load(indptr + lane), tl.load(indptr + lane + 1)
    sums = tl.zeros((SAMPLES, MEMBERS), dtype=tl.float32)
    for slot in range(begin, end, SLOTS):
        places = slot + tl.arange(0, SLOTS)
        among = places < end
        column = tl.load(columns + places, mask=among, other=0)
        inputs = tl.load(
            x + samples[:, None] * x_sample + column[None, :] * x_feature,
            mask=here[:, None] & among[None, :],
            other=0.0,
        )
        weights = tl.load(
            values + places[:, None] * GROUP + members[None, :],
            mask=among[:, None] & (members < GROUP)[None, :],
            other=0.0,
        )
        sums = tl.dot(inputs, weights, sums, input_precision=PRECISION)
    row = lane * GROUP + members
    ours = (members < GROUP) & (row < rows)
    if HAS_BIAS:
        sums += tl.load(bias + row, mask=ours, other=0.0).to(tl.float32)[None, :]
    offsets = samples[:, None] * y_sample + row[None, :] * y_feature
    written = here[:, None] & ours[None, :]
    if KEEP:
        tl.store(z + offsets, sums.to(z.dtype.element_ty), mask=written)
    out = activated(sums, ACTIVATION)
    tl.store(y + offsets, out.to(y.dtype.element_ty), mask=written)
