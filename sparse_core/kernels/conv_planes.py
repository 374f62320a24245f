"""Passes over one channel of one tile: normalisation, ReLU and sums, on vectors of samples.

A plane has `height` rows of `width` pixels, a pixel is TILE samples side by side; rows of different
arrays lie `row` floats apart, each in its own. Of the samples of a pixel the first `valid` count.
Upper-case parameters are constants of the machine code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import types

from sparse_core.kernels.simd import I64, Lanes, cgutils, const, intrinsic, loop


@contextmanager
def _vectors(
    v: Lanes, tile: int, height: Any, width: Any, rows: Sequence[Any]
) -> Iterator[list[tuple[int, list[Any]]]]:
    """Emit loops over the pixels of a plane around the body.

    Yields:
        For each vector of a pixel its first sample, and its offset in each array.
    """
    builder = v.builder
    with loop(builder, const(0), height) as y:
        begins = [builder.mul(y, row) for row in rows]
        with loop(builder, const(0), width) as p:
            across = builder.mul(p, const(tile))
            yield [
                (part, [builder.add(builder.add(begin, across), const(part)) for begin in begins])
                for part in range(0, tile, v.lanes)
            ]


def _counted(v: Lanes, part: int, valid: Any) -> Any:
    """Return which samples of a vector count."""
    counts = ir.VectorType(I64, v.lanes)
    lanes = ir.Constant(counts, list(range(part, part + v.lanes)))
    undefined = ir.Constant(counts, ir.Undefined)
    first = v.builder.insert_element(undefined, valid, ir.Constant(ir.IntType(32), 0))
    return v.builder.icmp_signed("<", lanes, v.shuffle(first, undefined, [0] * v.lanes))


def _number(v: Lanes, scale: Any, shift: Any, y: Any, more: Any) -> Any:
    """Return scale * y + shift + more; without `more` if it is None."""
    found = v.fma(scale, y, shift)
    return found if more is None else v.builder.fadd(found, more)


@intrinsic
def plane_sum(
    typing_context: Any, TILE: Any, LANES: Any, SQUARED: Any,
    y: Any, row: Any, height: Any, width: Any, centre: Any, valid: Any,
) -> Any:  # fmt: skip
    """Return the sum of y - centre, or of its square."""
    size = types.intp
    signature = types.float32(TILE, LANES, SQUARED, y, size, size, size, types.float32, size)
    tile, lanes, squared = (t.literal_value for t in (TILE, LANES, SQUARED))

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y, row, height, width, centre, valid = arguments[3:]
        v = Lanes(builder, lanes)
        total = cgutils.alloca_once_value(builder, v.zero)
        centre = v.splat(centre)
        counted = {part: _counted(v, part, valid) for part in range(0, tile, lanes)}
        with _vectors(v, tile, height, width, [row]) as vectors:
            for part, (offset,) in vectors:
                number = builder.fsub(v.load(y, offset), centre)
                number = builder.select(counted[part], number, v.zero)
                before = builder.load(total)
                if squared:
                    builder.store(v.fma(number, number, before), total)
                else:
                    builder.store(builder.fadd(before, number), total)
        return v.total(builder.load(total))

    return signature, codegen


@intrinsic
def plane_normalise(
    typing_context: Any, TILE: Any, LANES: Any, RELU: Any, ADDED: Any,
    y: Any, y_row: Any, more: Any, more_row: Any, out: Any, out_row: Any, height: Any, width: Any,
    scale: Any, shift: Any,
) -> Any:  # fmt: skip
    """Write scale * y + shift to out, plus `more` if ADDED, zero where it is negative if RELU."""
    size, number = types.intp, types.float32
    signature = types.void(
        TILE, LANES, RELU, ADDED, y, size, more, size, out, size, size, size, number, number
    )
    tile, lanes, relu, added = (t.literal_value for t in (TILE, LANES, RELU, ADDED))

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y, y_row, more, more_row, out, out_row, height, width, scale, shift = arguments[4:]
        v = Lanes(builder, lanes)
        scale, shift = v.splat(scale), v.splat(shift)
        with _vectors(v, tile, height, width, [y_row, more_row, out_row]) as vectors:
            for _, (of_y, of_more, of_out) in vectors:
                summand = v.load(more, of_more) if added else None
                found = _number(v, scale, shift, v.load(y, of_y), summand)
                v.store(v.relu(found) if relu else found, out, of_out)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def plane_signal(
    typing_context: Any, TILE: Any, LANES: Any, RELU: Any, ADDED: Any,
    d: Any, d_row: Any, y: Any, y_row: Any, more: Any, more_row: Any, height: Any, width: Any,
    scale: Any, shift: Any, mean: Any, sums: Any,
) -> Any:  # fmt: skip
    """Zero d where `plane_normalise` with RELU gave 0; sums = sum of d, sum of d * (y - mean)."""
    size, number = types.intp, types.float32
    signature = types.void(
        TILE, LANES, RELU, ADDED, d, size, y, size, more, size, size, size, number, number, number,
        sums,
    )  # fmt: skip
    tile, lanes, relu, added = (t.literal_value for t in (TILE, LANES, RELU, ADDED))

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        d, d_row, y, y_row, more, more_row, height, width, scale, shift, mean, sums = arguments[4:]
        v = Lanes(builder, lanes)
        scale, shift, mean = v.splat(scale), v.splat(shift), v.splat(mean)
        plain = cgutils.alloca_once_value(builder, v.zero)
        weighted = cgutils.alloca_once_value(builder, v.zero)
        with _vectors(v, tile, height, width, [d_row, y_row, more_row]) as vectors:
            for _, (of_d, of_y, of_more) in vectors:
                signal, value = v.load(d, of_d), v.load(y, of_y)
                if relu:
                    summand = v.load(more, of_more) if added else None
                    found = _number(v, scale, shift, value, summand)
                    off = builder.fcmp_ordered("<=", found, v.zero)
                    signal = builder.select(off, v.zero, signal)
                    v.store(signal, d, of_d)
                builder.store(builder.fadd(builder.load(plain), signal), plain)
                centred = builder.fsub(value, mean)
                builder.store(v.fma(signal, centred, builder.load(weighted)), weighted)
        builder.store(v.total(builder.load(plain)), sums)
        builder.store(v.total(builder.load(weighted)), builder.gep(sums, [const(1)]))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def plane_combine(
    typing_context: Any, TILE: Any, LANES: Any,
    d: Any, d_row: Any, y: Any, y_row: Any, out: Any, out_row: Any, height: Any, width: Any,
    scale: Any, slope: Any, mean: Any, shift: Any, valid: Any,
) -> Any:  # fmt: skip
    """Write scale * d + slope * (y - mean) + shift to out, zero for samples that do not count."""
    size, number = types.intp, types.float32
    signature = types.void(
        TILE, LANES, d, size, y, size, out, size, size, size, number, number, number, number, size
    )
    tile, lanes = TILE.literal_value, LANES.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        d, d_row, y, y_row, out, out_row, height, width = arguments[2:10]
        scale, slope, mean, shift = (Lanes(builder, lanes).splat(a) for a in arguments[10:14])
        valid = arguments[14]
        v = Lanes(builder, lanes)
        counted = {part: _counted(v, part, valid) for part in range(0, tile, lanes)}
        with _vectors(v, tile, height, width, [d_row, y_row, out_row]) as vectors:
            for part, (of_d, of_y, of_out) in vectors:
                centred = builder.fsub(v.load(y, of_y), mean)
                found = v.fma(slope, centred, v.fma(scale, v.load(d, of_d), shift))
                v.store(builder.select(counted[part], found, v.zero), out, of_out)
        return context.get_dummy_value()

    return signature, codegen
