"""GELU and its derivative in one pass over the kernels' layout.

    gelu(x)  = x P(x)              P(x) = P(X <= x), X ~ N(0, 1)      (Hendrycks and Gimpel 2016)
    gelu'(x) = P(x) + x p(x)

With z = |x| / sqrt(2) and t = 1 / (1 + 0.36 z), 1 - P(|x|) is t Q(t) exp(-z^2) / 2, the form of
Abramowitz and Stegun (7.1.26); Q is a fit of degree 6 with which P is off by 3e-8 at most. The
derivative shares the exponential, so it is written beside the result: the backward pass multiplies.
GELU by tanh is torch's.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import math
from typing import Any

import torch
from llvmlite import ir
from numba import prange
from numba.core import types
from numpy.typing import NDArray

from sparse_core.kernels import isa, plan
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.simd import I32, Lanes, at, intrinsic
from sparse_core.kernels.threads import team

Array = NDArray[Any]

NAMES = ("gelu", "gelu_tanh")
"""By the error function, and by tanh."""

# 2^f on [-0.5, 0.5] and exp(z^2) erfc(z) / t, lowest power first.
_EXP2 = (
    0.9999999999595485,
    0.6931472067106187,
    0.24022651213596455,
    0.05550327214210924,
    0.009618025602796367,
    0.0013400432164871745,
    0.00015469732024939734,
)
_TAIL = (
    0.20174126,
    0.22126078,
    0.08902982,
    0.46675171,
    -0.3981511,
    0.58880099,
    -0.16943351,
)
_SLOPE = 0.36 / math.sqrt(2)
_LARGE = 13.0  # beyond it P is zero or one in float32
_ROUND = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, left in the low bits

_aten: Any = torch.ops.aten


def gelu(name: str, x: Array, out: Array, threads: int = 1) -> None:
    """Write GELU of x to `out`, and its derivative to x.

    Args:
        name: One of `NAMES`.
        x: float32 of any shape, contiguous; overwritten.
        out: Of the same shape, other memory.
        threads: How many may run.
    """
    if name == "gelu_tanh":
        before, to = torch.from_numpy(x), torch.from_numpy(out)
        _aten.gelu.out(before, approximate="tanh", out=to)
        slope = _aten.gelu_backward(torch.ones_like(before), before, approximate="tanh")
        before.copy_(slope)
        return
    threads = plan.useful_threads(threads, 16 * x.size)
    with team(threads):
        gelu_kernel(threads > 1)(x.reshape(-1), out.reshape(-1), threads)


@intrinsic
def apply(typing_context: Any, LANES: Any, x: Any, out: Any) -> Any:
    """Write GELU of a vector at x to out, and its derivative to x."""
    signature = types.void(LANES, x, out)
    lanes = LANES.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, x, out = arguments
        v = Lanes(builder, lanes)
        result, slope = _gelu(v, v.load(x))
        v.store(result, out)
        v.store(slope, x)
        return context.get_dummy_value()

    return signature, codegen


def _gelu(v: Lanes, number: Any) -> tuple[Any, Any]:
    """Return GELU of a vector and its derivative."""
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

    magnitude = builder.bitcast(
        builder.and_(builder.bitcast(number, integers), bits(2**31 - 1)), v.type
    )
    below = builder.fcmp_ordered("<", magnitude, every(_LARGE))
    magnitude = builder.select(below, magnitude, every(_LARGE))
    square = builder.fmul(magnitude, magnitude)
    exponent = builder.fmul(square, every(-0.5 / math.log(2)))
    rounded = builder.fadd(exponent, every(_ROUND))
    fraction = builder.fsub(exponent, builder.fsub(rounded, every(_ROUND)))
    power = builder.add(builder.shl(builder.bitcast(rounded, integers), bits(23)), bits(127 << 23))
    bell = builder.fmul(polynomial(fraction, _EXP2), builder.bitcast(power, v.type))
    t = builder.fdiv(every(1.0), v.fma(magnitude, every(_SLOPE), every(1.0)))
    tail = builder.fmul(builder.fmul(t, every(0.5)), builder.fmul(polynomial(t, _TAIL), bell))
    negative = builder.fcmp_ordered("<", number, v.zero)
    share = builder.select(negative, tail, builder.fsub(every(1.0), tail))
    density = builder.fmul(bell, every(1 / math.sqrt(2 * math.pi)))
    return builder.fmul(number, share), v.fma(number, density, share)


@once
def gelu_kernel(parallel: bool) -> Any:
    """Return a function of flat float32 arrays (x, out, chunks), which does what `gelu` does.

    Args:
        parallel: Whether chunks run on Numba's threads.
    """
    lanes = isa.host().lanes

    @kernel("void(float32[::1], float32[::1], int64)", parallel=parallel)
    def gelu(x, out, chunks):
        for chunk in prange(chunks):
            first, last = x.size * chunk // chunks, x.size * (chunk + 1) // chunks
            whole = first + (last - first) // lanes * lanes
            for i in range(first, whole, lanes):
                apply(lanes, at(x, i), at(out, i))
            for i in range(whole, last):
                apply(1, at(x, i), at(out, i))

    return gelu
