"""The inner kernels of bands: one entry, the part of a group of rows in a band, on one tile.

Notation as in `sparse_core.kernels.tiles`; `offsets` (n,) count units of bytes from where the
band begins in the tile (`sparse_core.kernels.bands`). Entries come in no order that the hardware
foresees, so each kernel asks for what a later one will need.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types

from sparse_core.kernels.bands import UNIT
from sparse_core.kernels.simd import (
    F32,
    LINE,
    Lanes,
    cgutils,
    const,
    emit_prefetch,
    intrinsic,
    loop,
    widen,
)
from sparse_core.kernels.tiles import RELU


class _Features:
    """Emits addresses of the features that an entry reads, by the number of the slot."""

    def __init__(self, builder: Any, offsets: Any, band: Any) -> None:
        self.builder, self.offsets = builder, offsets
        self.band = builder.bitcast(band, ir.IntType(8 * UNIT).as_pointer())

    def __getitem__(self, k: Any) -> Any:
        offset = widen(self.builder, self.builder.load(self.builder.gep(self.offsets, [k])))
        return self.builder.bitcast(self.builder.gep(self.band, [offset]), F32.as_pointer())


@intrinsic
def prefetch(typing_context: Any, pointer: Any, n: Any) -> Any:
    """Ask for the first and the last of n floats: all of them, where they are a line or two."""
    signature = types.void(pointer, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, n = arguments
        emit_prefetch(builder, pointer, [const(0), builder.sub(n, const(1))])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def entry_forward(
    typing_context: Any,
    G: Any, TILE: Any, SUB: Any, LANES: Any, ACT: Any,
    w: Any, offsets: Any, n: Any, x: Any, bias: Any, out: Any, following: Any, first: Any,
    last: Any,
) -> Any:  # fmt: skip
    """out[r] = (bias[r] if first else out[r]) + sum over k of w[k, r] * x[k], for a group's rows.

    If `last`, and `ACT` is `RELU`, max(., 0) is applied; `following` is the `out` of a later entry.
    """
    flag = types.boolean
    signature = types.void(
        G, TILE, SUB, LANES, ACT, w, offsets, types.intp, x, bias, out, following, flag, flag
    )
    g, tile, sub, lanes, act = (t.literal_value for t in (G, TILE, SUB, LANES, ACT))
    places = [(r, i) for r in range(g) for i in range(0, sub, lanes)]

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w, offsets, n, x, bias, out, following, first, last = arguments[5:]
        v, features = Lanes(builder, lanes), _Features(builder, offsets, x)
        sums = {place: cgutils.alloca_once(builder, v.type) for place in places}
        with builder.if_else(first) as (begins, goes_on):
            with begins:
                for (r, _), s in sums.items():
                    builder.store(v.splat(builder.load(builder.gep(bias, [const(r)]))), s)
            with goes_on:
                for (r, i), s in sums.items():
                    builder.store(v.load(out, r * tile + i), s)
        lines = [const(r * tile + i) for r in range(g) for i in range(0, sub, LINE)]
        emit_prefetch(builder, following, lines)
        with loop(builder, const(0), n) as k:
            feature, base = features[k], builder.mul(k, const(g))
            xs = {i: v.load(feature, i) for i in range(0, sub, lanes)}
            for r in range(g):
                weight = v.splat(builder.load(builder.gep(w, [builder.add(base, const(r))])))
                for i, operand in xs.items():
                    builder.store(v.fma(weight, operand, builder.load(sums[r, i])), sums[r, i])
        if act == RELU:
            with builder.if_then(last):
                for s in sums.values():
                    builder.store(v.relu(builder.load(s)), s)
        for (r, i), s in sums.items():
            v.store(builder.load(s), out, r * tile + i)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def entry_dots(
    typing_context: Any,
    G: Any, TILE: Any, LANES: Any, DOTS: Any, REGISTERS: Any,
    offsets: Any, n: Any, x: Any, dy: Any, dw: Any, following: Any, fresh: Any,
) -> Any:  # fmt: skip
    """dw[k, r] = (0 if fresh else dw[k, r]) + dot(dy[r], x[k]) over the tile's samples.

    `DOTS` products are summed over vectors first and share one horizontal sum. `following` is the
    `dy` of a later entry.
    """
    signature = types.void(
        G, TILE, LANES, DOTS, REGISTERS, offsets, types.intp, x, dy, dw, following, types.boolean
    )
    g, tile, lanes, dots, registers = (t.literal_value for t in (G, TILE, LANES, DOTS, REGISTERS))
    step, places = dots // g, range(0, tile, lanes)
    resident = g * len(places) + dots + 4 <= registers

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        offsets, n, x, dy, dw, following, fresh = arguments[5:]
        v, features = Lanes(builder, lanes), _Features(builder, offsets, x)
        emit_prefetch(builder, following, [const(i) for i in range(0, g * tile, LINE)])

        def of_dy(i: int) -> list[Any]:
            return [v.load(dy, r * tile + i) for r in range(g)]

        held = {i: of_dy(i) for i in places} if resident else {}

        def products(ks: list[Any]) -> list[Any]:
            """Return vectors of the dots of slots `ks` with the rows, rows fastest."""
            tiles, sums = [features[k] for k in ks], [[v.zero] * g for _ in ks]
            cells = [(c, i) for c in range(len(ks)) for i in places]
            loaded = held
            for c, i in cells if resident else sorted(cells, key=lambda cell: cell[1]):
                if i not in loaded:
                    loaded = {i: of_dy(i)}
                part = v.load(tiles[c], i)
                for r, operand in enumerate(loaded[i]):
                    product = v.fma(operand, part, sums[c][r]) if i else builder.fmul(operand, part)
                    sums[c][r] = product
            flat = [s for slot in sums for s in slot]
            return [v.sums(flat[i : i + lanes]) for i in range(0, len(flat), lanes)]

        def slots_from(k: Any, count: int) -> None:
            for j, total in enumerate(products([builder.add(k, const(c)) for c in range(count)])):
                few = Lanes(builder, total.type.count)
                place = builder.add(builder.mul(k, const(g)), const(j * lanes))
                old = builder.select(fresh, few.zero, few.load(dw, place))
                few.store(builder.fadd(old, total), dw, place)

        with loop(builder, const(0), builder.and_(n, const(-step)), step) as k:
            slots_from(k, step)
        count = step // 2
        while count:
            # `n` is cut into powers of two: those below `step` occur once or not at all.
            bit = builder.and_(n, const(count))
            with builder.if_then(builder.icmp_unsigned("!=", bit, const(0))):
                slots_from(builder.and_(n, const(-2 * count)), count)
            count //= 2
        return context.get_dummy_value()

    return signature, codegen
