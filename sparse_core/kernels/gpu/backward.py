"""Gradients of condensed layers: of the input, of the values, of the bias, and of activations.

    input_gradients     dx = W^T dy, a gather over the weights by column
    value_gradients     dW = dy x^T at stored slots, in registers
    tile_gradients      the same for groups of 8 to 32, on tensor cores
    through_activation  dz of dy, in place, and the sums over samples: the gradient of the bias

Every sum is made by one program, in one order.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# mypy: no-check-untyped-defs
# Kernels have the types of their Triton signatures.

from __future__ import annotations

import triton
import triton.language as tl

from sparse_core.kernels.gpu.activations import through


@triton.jit
def input_gradients(
    values, owners, sources, indptr, dy, dx, batch, features, rows,
    dy_feature, dy_sample, dx_feature, dx_sample,
    GROUP: tl.constexpr, COLUMNS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Compute `COLUMNS` features of dx for `SAMPLES` samples.

    Slots of column j are `indptr[j]:indptr[j + 1]`; slot n lies at `sources[n]` and is one of group
    `owners[n]`. `dy` is (rows, batch), `dx` (features, batch), by the strides given.
    """
    samples = tl.program_id(1) * SAMPLES + tl.arange(0, SAMPLES)
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    here = samples < batch
    begins = tl.load(indptr + columns, mask=columns < features, other=0)
    counts = tl.load(indptr + columns + 1, mask=columns < features, other=0) - begins
    sums = tl.zeros((COLUMNS, SAMPLES), dtype=tl.float32)
    for n in range(tl.max(counts, 0)):
        among = n < counts
        owner = tl.load(owners + begins + n, mask=among, other=0)
        source = tl.load(sources + begins + n, mask=among, other=0)
        for member in tl.static_range(GROUP):
            row = owner * GROUP + member
            used = among & (row < rows)
            weights = tl.load(values + source * GROUP + member, mask=used, other=0.0)
            signal = tl.load(
                dy + row[:, None] * dy_feature + samples[None, :] * dy_sample,
                mask=used[:, None] & here[None, :],
                other=0.0,
            )
            sums += weights.to(tl.float32)[:, None] * signal.to(tl.float32)
    offsets = columns[:, None] * dx_feature + samples[None, :] * dx_sample
    written = (columns < features)[:, None] & here[None, :]
    tl.store(dx + offsets, sums.to(dx.dtype.element_ty), mask=written)


@triton.jit
def value_gradients(
    columns, owners, x, dy, dvalues, batch, slots, rows, capacity,
    x_feature, x_sample, dy_feature, dy_sample,
    GROUP: tl.constexpr, SLOTS: tl.constexpr, SAMPLES: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of `SLOTS` slots, zeros where a slot is unused (owner -1).

    `dvalues` is (capacity,); the last slot may be cut short.
    """
    places = tl.program_id(0) * SLOTS + tl.arange(0, SLOTS)
    members = tl.arange(0, GROUP)
    column = tl.load(columns + places, mask=places < slots, other=0)
    owner = tl.load(owners + places, mask=places < slots, other=-1)
    used = owner >= 0
    row = owner[:, None] * GROUP + members[None, :]
    trains = used[:, None] & (row < rows)
    sums = tl.zeros((SLOTS, GROUP), dtype=tl.float32)
    for first in range(0, batch, SAMPLES):
        samples = first + tl.arange(0, SAMPLES)
        here = samples < batch
        inputs = tl.load(
            x + column[:, None] * x_feature + samples[None, :] * x_sample,
            mask=used[:, None] & here[None, :],
            other=0.0,
        ).to(tl.float32)
        signal = tl.load(
            dy + row[:, :, None] * dy_feature + samples[None, None, :] * dy_sample,
            mask=trains[:, :, None] & here[None, None, :],
            other=0.0,
        ).to(tl.float32)
        sums += tl.sum(inputs[:, None, :] * signal, axis=2)
    offsets = places[:, None] * GROUP + members[None, :]
    written = (places < slots)[:, None] & (offsets < capacity)
    tl.store(dvalues + offsets, sums.to(dvalues.dtype.element_ty), mask=written)


@triton.jit
def tile_gradients(
    columns, indptr, x, dy, dvalues, batch, rows,
    x_feature, x_sample, dy_feature, dy_sample,
    GROUP: tl.constexpr, MEMBERS: tl.constexpr, SLOTS: tl.constexpr, SAMPLES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of `SLOTS` slots of one group; `dvalues` is zero before."""
    lane = tl.program_id(0)
    begin, end = tl.load(indptr + lane), tl.load(indptr + lane + 1)
    places = begin + tl.program_id(1) * SLOTS + tl.arange(0, SLOTS)
    among = places < end
    members = tl.arange(0, MEMBERS)
    row = lane * GROUP + members
    ours = (members < GROUP) & (row < rows)
    column = tl.load(columns + places, mask=among, other=0)
    sums = tl.zeros((SLOTS, MEMBERS), dtype=tl.float32)
    if begin + tl.program_id(1) * SLOTS < end:
        for first in range(0, batch, SAMPLES):
            samples = first + tl.arange(0, SAMPLES)
            here = samples < batch
            inputs = tl.load(
                x + column[:, None] * x_feature + samples[None, :] * x_sample,
                mask=among[:, None] & here[None, :],
                other=0.0,
            )
            signal = tl.load(
                dy + samples[:, None] * dy_sample + row[None, :] * dy_feature,
                mask=here[:, None] & ours[None, :],
                other=0.0,
            )
            sums = tl.dot(inputs, signal, sums, input_precision=PRECISION)
    offsets = places[:, None] * GROUP + members[None, :]
    written = among[:, None] & ours[None, :]
    tl.store(dvalues + offsets, sums.to(dvalues.dtype.element_ty), mask=written)


@triton.jit
def through_activation(
    signal, seen, sums, batch, features, s_feature, s_sample, seen_feature, seen_sample,
    FEATURES: tl.constexpr, SAMPLES: tl.constexpr,
    ACTIVATION: tl.constexpr, WRITE: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Turn dy of `FEATURES` features into dz, in place if `WRITE`; add up samples if `SUM`.

    `signal` and `seen` are (features, batch) by the strides given; `sums` is (features,).
    """
    feature = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    inside = feature < features
    total = tl.zeros((FEATURES,), dtype=tl.float32)
    for first in range(0, batch, SAMPLES):
        samples = first + tl.arange(0, SAMPLES)
        mask = inside[:, None] & (samples < batch)[None, :]
        offsets = feature[:, None] * s_feature + samples[None, :] * s_sample
        gradient = tl.load(signal + offsets, mask=mask, other=0.0).to(tl.float32)
        if ACTIVATION:
            others = feature[:, None] * seen_feature + samples[None, :] * seen_sample
            there = tl.load(seen + others, mask=mask, other=0.0).to(tl.float32)
            gradient = through(gradient, there, ACTIVATION)
        if WRITE:
            tl.store(signal + offsets, gradient.to(signal.dtype.element_ty), mask=mask)
        if SUM:
            total += tl.sum(gradient, axis=1)
    if SUM:
        tl.store(sums + feature, total.to(sums.dtype.element_ty), mask=inside)
