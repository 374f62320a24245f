"""Product of a condensed matrix with one sample: no layout to change, no tile to fill.

With groups, one number of x feeds a vector of the group's weights. With rows of their own columns
the numbers of x have to be gathered; single loads into lanes of a vector are faster than the
gather instructions of today's processors.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import prange
from numba.core import types
from numba.np.numpy_support import carray

from sparse_core.kernels.jit import inlined, kernel, once
from sparse_core.kernels.simd import I32, Lanes, at, cgutils, const, intrinsic, loop, widen

_LANES = 4  # of a gathered vector: four inserts are one short chain
_SUMS = 4


@intrinsic
def dot(typing_context: Any, STRIDE: Any, w: Any, columns: Any, n: Any, x: Any) -> Any:
    """Return the sum over k of w[k * STRIDE] * x[columns[k]]."""
    signature = types.float32(STRIDE, w, columns, types.intp, x)
    stride = STRIDE.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, w, columns, n, x = arguments
        v = Lanes(builder, _LANES)
        sums = [cgutils.alloca_once_value(builder, v.zero) for _ in range(_SUMS)]

        def element(k: Any) -> Any:
            column = widen(builder, builder.load(builder.gep(columns, [k])))
            return builder.load(builder.gep(x, [column]))

        def add(start: Any, into: Any) -> None:
            gathered = ir.Constant(v.type, ir.Undefined)
            for lane in range(_LANES):
                number = element(builder.add(start, const(lane)))
                gathered = builder.insert_element(gathered, number, ir.Constant(I32, lane))
            builder.store(v.fma(v.load(w, start), gathered, builder.load(into)), into)

        whole = builder.and_(n, const(-_LANES * _SUMS)) if stride == 1 else const(0)
        fours = builder.and_(n, const(-_LANES)) if stride == 1 else const(0)
        with loop(builder, const(0), whole, _LANES * _SUMS) as k:
            for u, s in enumerate(sums):
                add(builder.add(k, const(u * _LANES)), s)
        with loop(builder, whole, fours, _LANES) as k:
            add(k, sums[0])
        total = builder.load(sums[0])
        for s in sums[1:]:
            total = builder.fadd(total, builder.load(s))
        result = cgutils.alloca_once_value(builder, v.total(total))
        with loop(builder, fours, n) as k:
            weight = builder.load(builder.gep(w, [builder.mul(k, const(stride))]))
            product = builder.fmul(weight, element(k))
            builder.store(builder.fadd(builder.load(result), product), result)
        return builder.load(result)

    return signature, codegen


@intrinsic
def group_dot(
    typing_context: Any, G: Any, RELU: Any, w: Any, columns: Any, n: Any, x: Any, bias: Any,
    out: Any,
) -> Any:  # fmt: skip
    """out[r] = act(bias[r] + sum over k of w[k * G + r] * x[columns[k]]) for r below G."""
    signature = types.void(G, RELU, w, columns, types.intp, x, bias, out)
    g, relu = G.literal_value, RELU.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w, columns, n, x, bias, out = arguments[2:]
        v = Lanes(builder, g)
        sums = [cgutils.alloca_once_value(builder, v.zero) for _ in range(_SUMS)]
        builder.store(v.load(bias), sums[0])

        def add(k: Any, into: Any) -> None:
            column = widen(builder, builder.load(builder.gep(columns, [k])))
            number = v.splat(builder.load(builder.gep(x, [column])))
            weights = v.load(w, builder.mul(k, const(g)))
            builder.store(v.fma(weights, number, builder.load(into)), into)

        whole = builder.sub(n, builder.urem(n, const(_SUMS)))
        with loop(builder, const(0), whole, _SUMS) as k:
            for u, s in enumerate(sums):
                add(builder.add(k, const(u)), s)
        with loop(builder, whole, n) as k:
            add(k, sums[0])
        total = builder.load(sums[0])
        for s in sums[1:]:
            total = builder.fadd(total, builder.load(s))
        v.store(v.relu(total) if relu else total, out)
        return context.get_dummy_value()

    return signature, codegen


@once
def sample_multiplier(group: int, relu: bool, tail: bool) -> Any:
    """Return a function that computes stored groups `first` to `last` of y = act(W x + b).

    It takes (values, columns, indptr, rows, x, bias, out, first, last).
    """
    act = int(relu)

    @inlined
    def multiply_sample(values, columns, indptr, rows, x, bias, out, first, last):
        height = out.size
        for i in range(first, last):
            start, row = indptr[i], rows[i] * group
            n = indptr[i + 1] - start
            if group == 1 or (tail and row + group > height):
                for r in range(min(group, height - row)):
                    total = bias[row + r] + dot(
                        group, at(values, start * group + r), at(columns, start), n, at(x, 0)
                    )
                    out[row + r] = type(total)(0) if relu and total <= 0 else total
            else:
                group_dot(
                    group, act, at(values, start * group), at(columns, start), n, at(x, 0),
                    at(bias, row), at(out, row),
                )  # fmt: skip

    return multiply_sample


@once
def sample_filler(relu: bool) -> Any:
    """Return a function that writes rows without weights: act(b), of (absent, bias, out)."""

    @inlined
    def fill_sample(absent, bias, out):
        for r in absent:
            constant = bias[r]
            out[r] = type(constant)(0) if relu and constant <= 0 else constant

    return fill_sample


@once
def gemv_kernel(group: int, index: str, relu: bool, tail: bool, parallel: bool) -> Any:
    """Return the kernel of y = act(W x + b) for one sample.

    Args:
        group: Rows that share their columns.
        index: Name of the type of the column indices.
        relu: Whether max(., 0) is applied to the result.
        tail: Whether the last group may have fewer than `group` rows.
        parallel: Whether chunks of rows run on Numba's threads.

    Returns:
        A function of (values, columns, indptr, rows, absent, x, bias, out, bounds).
    """
    multiply_sample, fill_sample = sample_multiplier(group, relu, tail), sample_filler(relu)

    @kernel(
        f"void(float32[::1], {index}[::1], int64[::1], int32[::1], int32[::1], float32[::1], "
        "float32[::1], float32[::1], int64[::1])",
        parallel=parallel,
    )
    def gemv(values, columns, indptr, rows, absent, x, bias, out, bounds):
        for chunk in prange(bounds.size - 1):
            multiply_sample(
                values, columns, indptr, rows, x, bias, out, bounds[chunk], bounds[chunk + 1]
            )
        fill_sample(absent, bias, out)

    return gemv


@intrinsic
def _pointer(typing_context: Any, BITS: Any, FLOAT: Any, address: Any) -> Any:
    """Return an address as a pointer to numbers of so many bits."""
    kind = "float" if FLOAT.literal_value else "int" if BITS.literal_value > 16 else "uint"
    pointer: Any = types.CPointer
    element = getattr(types, f"{kind}{BITS.literal_value}")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[2], context.get_value_type(signature.return_type))

    return pointer(element)(BITS, FLOAT, types.int64), codegen


@once
def one_sample_kernel(group: int, index: str, relu: bool, tail: bool) -> Any:
    """Return the kernel of y = act(W x + b) for one sample, of addresses: a call costs little.

    Args:
        group: Rows that share their columns.
        index: Name of the type of the column indices, `uint16` or `int32`.
        relu: Whether max(., 0) is applied to the result.
        tail: Whether the last group may have fewer than `group` rows.

    Returns:
        A function of a table, the address of x, and out, (1, out) float32. The table, int64, has
        the numbers of features, of weights, of slots, of stored groups and of rows without
        weights, and the addresses of values, columns, indptr, rows, absent and bias. Nothing is
        checked.
    """
    multiply_sample, fill_sample = sample_multiplier(group, relu, tail), sample_filler(relu)
    bits = 16 if index == "uint16" else 32

    @kernel("void(int64[::1], int64, float32[:, ::1])")
    def one_sample(table, x, out):
        features, size, slots, groups, without = table[0], table[1], table[2], table[3], table[4]
        y = out.reshape(-1)
        bias = carray(_pointer(32, 1, table[10]), y.size)
        multiply_sample(
            carray(_pointer(32, 1, table[5]), size),
            carray(_pointer(bits, 0, table[6]), slots),
            carray(_pointer(64, 0, table[7]), groups + 1),
            carray(_pointer(32, 0, table[8]), groups),
            carray(_pointer(32, 1, x), features),
            bias, y, 0, groups,
        )  # fmt: skip
        fill_sample(carray(_pointer(32, 0, table[9]), without), bias, y)

    return one_sample
