"""The norm of all gradients of an optimizer, limited."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparse_core.kernels import isa
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.optimizer_steps import GRADIENT, SIZE
from sparse_core.kernels.simd import F32, Lanes, cgutils, const, intrinsic, loop, types

_SUMS = 4  # vectors of sums, so that additions do not wait for each other


@once
def clip_kernel() -> Any:
    """Return the kernel that limits the norm of gradients.

    Returns:
        A function of an optimizer's table and of the largest norm, (1,) float64.
    """
    lanes, gradient, size = isa.host().lanes, GRADIENT, SIZE

    @kernel("void(int64[:, ::1], float64[::1])")
    def clip(table, largest):
        total = 0.0
        for row in table:
            total += squares(lanes, row[gradient], row[size])
        scale = largest[0] / (math.sqrt(total) + 1e-6)
        if scale < 1:
            for row in table:
                scale_by(lanes, row[gradient], row[size], np.float32(scale))

    return clip


@intrinsic
def squares(typing_context: Any, LANES: Any, address: Any, size: Any) -> Any:
    """Return the sum of squares of `size` float32 at an address."""
    lanes = LANES.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, address, size = arguments
        pointer = builder.inttoptr(address, F32.as_pointer())
        unrolled = builder.and_(size, const(-lanes * _SUMS))
        v = Lanes(builder, lanes)
        sums = [cgutils.alloca_once_value(builder, v.zero) for _ in range(_SUMS)]
        with loop(builder, const(0), unrolled, lanes * _SUMS) as i:
            for u, part in enumerate(sums):
                number = v.load(pointer, builder.add(i, const(u * lanes)))
                builder.store(v.fma(number, number, builder.load(part)), part)
        total = v.zero
        for part in sums:
            total = builder.fadd(total, builder.load(part))
        rest = cgutils.alloca_once_value(builder, v.total(total))
        with loop(builder, unrolled, size) as i:
            number = builder.load(builder.gep(pointer, [i]))
            added = builder.fadd(builder.load(rest), builder.fmul(number, number))
            builder.store(added, rest)
        return builder.load(rest)

    return types.float32(LANES, types.int64, types.int64), codegen


@intrinsic
def scale_by(typing_context: Any, LANES: Any, address: Any, size: Any, factor: Any) -> Any:
    """Multiply `size` float32 at an address by a factor."""
    lanes = LANES.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, address, size, factor = arguments
        pointer = builder.inttoptr(address, F32.as_pointer())
        whole = builder.and_(size, const(-lanes))
        for width, start, stop in ((lanes, const(0), whole), (1, whole, size)):
            v = Lanes(builder, width)
            every = v.splat(factor)
            with loop(builder, start, stop, width) as i:
                v.store(builder.fmul(v.load(pointer, i), every), pointer, i)
        return context.get_dummy_value()

    return types.void(LANES, types.int64, types.int64, types.float32), codegen
