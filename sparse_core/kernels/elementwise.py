"""Activations between layers, on flat arrays of any layout.

All are elementwise and map zero to zero, so the samples that pad a tile stay zeros. They may work
in place, which is why they are written as vectors: LLVM leaves loops alone that read what they
write. tanh is x P(x^2) for small x, else 1 - 2 / (exp(2 |x|) + 1); both polynomials are Chebyshev
fits, and the result is within 2e-7 of the true value, relatively.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import prange
from numba.core import types

from sparse_core.kernels import isa
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.simd import I32, Lanes, at, intrinsic

NAMES = ("relu", "relu_backward", "tanh", "tanh_backward")

# tanh(sqrt(t)) / sqrt(t) on [0, 0.4], and 2^f on [-0.5, 0.5], lowest power first.
_TANH = (
    1.0,
    -0.33333253860473633,
    0.13330957293510437,
    -0.0537070669233799,
    0.020544905215501785,
    -0.005607688799500465,
)
_EXP2 = (
    0.9999999999595485,
    0.6931472067106187,
    0.24022651213596455,
    0.05550327214210924,
    0.009618025602796367,
    0.0013400432164871745,
    0.00015469732024939734,
)
_SMALL_SQUARE = 0.4
_LARGE = 10.0  # tanh rounds to one from 9.01 on
_ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, left in the low bits


def _tanh(v: Lanes, number: Any) -> Any:
    """Return the hyperbolic tangent of a vector."""
    builder, integers = v.builder, ir.VectorType(I32, v.lanes)

    def every(value: float) -> Any:
        return ir.Constant(v.type, [value] * v.lanes)

    def bits(value: int) -> Any:
        return ir.Constant(integers, [value] * v.lanes)

    def polynomial(t: Any, coefficients: tuple[float, ...]) -> Any:
        total = every(coefficients[-1])
        for c in coefficients[-2::-1]:
            total = v.fma(total, t, every(c))
        return total

    square = builder.fmul(number, number)
    small = builder.fmul(number, polynomial(square, _TANH))
    sign = builder.and_(builder.bitcast(number, integers), bits(-(2**31)))
    magnitude = builder.bitcast(builder.xor(builder.bitcast(number, integers), sign), v.type)
    below = builder.fcmp_ordered("<", magnitude, every(_LARGE))
    magnitude = builder.select(below, magnitude, every(_LARGE))
    exponent = builder.fmul(magnitude, every(2 / math.log(2)))
    rounded = builder.fadd(exponent, every(_ROUND))
    fraction = builder.fsub(exponent, builder.fsub(rounded, every(_ROUND)))
    power = builder.add(builder.shl(builder.bitcast(rounded, integers), bits(23)), bits(127 << 23))
    exponential = builder.fmul(polynomial(fraction, _EXP2), builder.bitcast(power, v.type))
    denominator = builder.fadd(exponential, every(1.0))
    large = builder.fsub(every(1.0), builder.fdiv(every(2.0), denominator))
    large = builder.bitcast(builder.or_(builder.bitcast(large, integers), sign), v.type)
    is_small = builder.fcmp_ordered("<", square, every(_SMALL_SQUARE))
    result = builder.select(is_small, small, large)
    is_number = builder.fcmp_ordered("ord", number, number)
    return builder.select(is_number, result, number)


def _relu_backward(v: Lanes, dy: Any, y: Any) -> Any:
    """Return dy where y is above zero or NaN, else zero."""
    off = v.builder.fcmp_ordered("<=", y, v.zero)
    return v.builder.select(off, v.zero, dy)


def _tanh_backward(v: Lanes, dy: Any, y: Any) -> Any:
    """Return dy (1 - y^2)."""
    builder, one = v.builder, ir.Constant(v.type, [1.0] * v.lanes)
    return builder.fmul(dy, builder.fsub(one, builder.fmul(y, y)))


@intrinsic
def apply(typing_context: Any, WHICH: Any, LANES: Any, a: Any, b: Any, out: Any) -> Any:
    """Write function `WHICH` of `NAMES` of vectors at a, and at b for gradients, to out."""
    signature = types.void(WHICH, LANES, a, b, out)
    name, lanes = NAMES[WHICH.literal_value], LANES.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, a, b, out = arguments
        v = Lanes(builder, lanes)
        number = v.load(a)
        if name == "relu":
            result = v.relu(number)
        elif name == "tanh":
            result = _tanh(v, number)
        elif name == "relu_backward":
            result = _relu_backward(v, number, v.load(b))
        else:
            result = _tanh_backward(v, number, v.load(b))
        v.store(result, out)
        return context.get_dummy_value()

    return signature, codegen


@once
def elementwise_kernel(name: str, parallel: bool) -> Any:
    """Return a kernel of `NAMES`.

    Args:
        name: `relu`, `relu_backward`, `tanh` or `tanh_backward`.
        parallel: Whether chunks run on Numba's threads.

    Returns:
        A function of flat float32 arrays (a, b, out, chunks): the argument, or the gradient of an
        activation's output and, as b, that output; and where to write the result, possibly a or b.
    """
    lanes, which = isa.host().lanes, NAMES.index(name)

    @kernel("void(float32[::1], float32[::1], float32[::1], int64)", parallel=parallel)
    def elementwise(a, b, out, chunks):
        for chunk in prange(chunks):
            first, last = a.size * chunk // chunks, a.size * (chunk + 1) // chunks
            whole = first + (last - first) // lanes * lanes
            for i in range(first, whole, lanes):
                apply(which, lanes, at(a, i), at(b, i), at(out, i))
            for i in range(whole, last):
                apply(which, 1, at(a, i), at(b, i), at(out, i))

    return elementwise
