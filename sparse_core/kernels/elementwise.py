"""Activations between layers, on flat arrays of any layout.

All are elementwise and map zero to zero, so the samples that pad a tile stay zeros. They may work
in place. `tanh` is vector code, since a call for each number would cost more than the product of
a sparse layer: x P(x^2) for small x, else 1 - 2 / (exp(2 |x|) + 1); both polynomials are
Chebyshev fits, and the result is within 2e-7 of the true value, relatively.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from llvmlite import ir
from numba import prange
from numba.core import types
from numba.extending import intrinsic

from sparse_core.kernels import isa
from sparse_core.kernels.jit import kernel
from sparse_core.kernels.simd import I32, Lanes, at

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


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def tanh_vector(typing_context: Any, LANES: Any, x: Any, out: Any) -> Any:
    """Write tanh of a vector at `x` to `out`."""
    signature = types.void(LANES, x, out)
    lanes = LANES.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Lanes(builder, lanes)
        integers = ir.VectorType(I32, lanes)

        def every(value: float) -> Any:
            return ir.Constant(v.type, [value] * lanes)

        def polynomial(t: Any, coefficients: tuple[float, ...]) -> Any:
            total = every(coefficients[-1])
            for c in coefficients[-2::-1]:
                total = v.fma(total, t, every(c))
            return total

        def bits(value: int) -> Any:
            return ir.Constant(integers, [value] * lanes)

        number = v.load(arguments[1])
        square = builder.fmul(number, number)
        small = builder.fmul(number, polynomial(square, _TANH))
        sign = builder.and_(builder.bitcast(number, integers), bits(-(2**31)))
        magnitude = builder.bitcast(builder.xor(builder.bitcast(number, integers), sign), v.type)
        below = builder.fcmp_ordered("<", magnitude, every(_LARGE))
        magnitude = builder.select(below, magnitude, every(_LARGE))
        exponent = builder.fmul(magnitude, every(2 / math.log(2)))
        rounded = builder.fadd(exponent, every(_ROUND))
        fraction = builder.fsub(exponent, builder.fsub(rounded, every(_ROUND)))
        power = builder.add(
            builder.shl(builder.bitcast(rounded, integers), bits(23)), bits(127 << 23)
        )
        exponential = builder.fmul(polynomial(fraction, _EXP2), builder.bitcast(power, v.type))
        denominator = builder.fadd(exponential, every(1.0))
        large = builder.fsub(every(1.0), builder.fdiv(every(2.0), denominator))
        large = builder.bitcast(builder.or_(builder.bitcast(large, integers), sign), v.type)
        is_small = builder.fcmp_ordered("<", square, every(_SMALL_SQUARE))
        result = builder.select(is_small, small, large)
        is_number = builder.fcmp_ordered("ord", number, number)
        v.store(builder.select(is_number, result, number), arguments[2])
        return context.get_dummy_value()

    return signature, codegen


@cache
def elementwise_kernel(name: str, parallel: bool) -> Any:
    """Return a kernel of `NAMES`.

    Args:
        name: `relu`, `relu_backward`, `tanh` or `tanh_backward`.
        parallel: Whether chunks run on Numba's threads.

    Returns:
        A function of flat float32 arrays: (x, out, chunks) for an activation, and (dy, y, out,
        chunks) for the gradient of its input from that of its output and the output.
    """
    if name == "tanh":
        return _tanh_kernel(parallel)
    if name == "relu":

        @kernel("void(float32[::1], float32[::1], int64)", (name,), parallel=parallel)
        def relu(x, out, chunks):  # type: ignore[no-untyped-def]
            for chunk in prange(chunks):
                for i in range(x.size * chunk // chunks, x.size * (chunk + 1) // chunks):
                    number = x[i]
                    out[i] = type(number)(0) if number <= 0 else number

        return relu
    gradient = name

    @kernel(
        "void(float32[::1], float32[::1], float32[::1], int64)", (name,), parallel=parallel
    )
    def backward(dy, y, out, chunks):  # type: ignore[no-untyped-def]
        for chunk in prange(chunks):
            for i in range(dy.size * chunk // chunks, dy.size * (chunk + 1) // chunks):
                d, number = dy[i], y[i]
                if gradient == "relu_backward":
                    out[i] = type(d)(0) if number <= 0 else d
                else:
                    out[i] = d * (type(d)(1) - number * number)

    return backward


def _tanh_kernel(parallel: bool) -> Any:
    lanes = isa.host().lanes

    @kernel("void(float32[::1], float32[::1], int64)", ("tanh",), parallel=parallel)
    def tanh(x, out, chunks):  # type: ignore[no-untyped-def]
        vectors = x.size // lanes
        for chunk in prange(chunks):
            for i in range(vectors * chunk // chunks, vectors * (chunk + 1) // chunks):
                tanh_vector(lanes, at(x, i * lanes), at(out, i * lanes))
        for i in range(vectors * lanes, x.size):
            tanh_vector(1, at(x, i), at(out, i))

    return tanh
