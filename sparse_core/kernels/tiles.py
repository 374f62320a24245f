"""The inner kernels: one group of rows on one tile of samples, sums in registers.

Notation: a group has `g` rows that share `n` columns; `w` (n, stride) are its weights, of which
the first `g` of each `stride` count; a tile holds `tile` samples of each feature side by side, of
which a kernel takes `sub` at a time. Upper-case parameters are constants of the machine code.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from sparse_core.kernels.simd import Lanes, cgutils, const, intrinsic, loop, widen

RELU = 1
"""Value of `ACT` that applies max(., 0) to the result."""


class _Columns:
    """Emits addresses of the columns' tiles."""

    def __init__(self, builder: Any, columns: Any, base: Any, tile: int) -> None:
        self.builder, self.columns, self.base, self.tile = builder, columns, base, tile

    def __getitem__(self, k: Any) -> Any:
        column = widen(self.builder, self.builder.load(self.builder.gep(self.columns, [k])))
        return self.builder.gep(self.base, [self.builder.mul(column, const(self.tile))])


@intrinsic
def tile_forward(
    typing_context: Any,
    G: Any, STRIDE: Any, TILE: Any, SUB: Any, LANES: Any, UNROLL: Any, ACT: Any,
    w: Any, columns: Any, n: Any, x: Any, bias: Any, out: Any,
) -> Any:  # fmt: skip
    """out[r] = act(bias[r] + sum over k of w[k, r] * x[columns[k]]) for the rows r of a group."""
    signature = types.void(
        G, STRIDE, TILE, SUB, LANES, UNROLL, ACT, w, columns, types.intp, x, bias, out
    )
    g, stride, tile, sub, lanes, unroll, act = (
        t.literal_value for t in (G, STRIDE, TILE, SUB, LANES, UNROLL, ACT)
    )
    vectors = sub // lanes

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w, columns, n, x, bias, out = arguments[7:]
        v = Lanes(builder, lanes)
        tiles = _Columns(builder, columns, x, tile)
        sums = [
            [[cgutils.alloca_once(builder, v.type) for _ in range(vectors)] for _ in range(g)]
            for _ in range(unroll)
        ]
        for u in range(unroll):
            for r in range(g):
                first = v.zero if u else v.splat(builder.load(builder.gep(bias, [const(r)])))
                for s in sums[u][r]:
                    builder.store(first, s)

        def add(k: Any, into: list[list[Any]]) -> None:
            tile_k = tiles[k]
            xs = [v.load(tile_k, i * lanes) for i in range(vectors)]
            base = builder.mul(k, const(stride))
            for r in range(g):
                weight = v.splat(builder.load(builder.gep(w, [builder.add(base, const(r))])))
                for i, s in enumerate(into[r]):
                    builder.store(v.fma(weight, xs[i], builder.load(s)), s)

        whole = builder.sub(n, builder.urem(n, const(unroll)))
        if unroll > 1:
            with loop(builder, const(0), whole, unroll) as k:
                for u in range(unroll):
                    add(builder.add(k, const(u)), sums[u])
        with loop(builder, whole if unroll > 1 else const(0), n) as k:
            add(k, sums[0])
        for r in range(g):
            for i in range(vectors):
                total = builder.load(sums[0][r][i])
                for u in range(1, unroll):
                    total = builder.fadd(total, builder.load(sums[u][r][i]))
                v.store(v.relu(total) if act == RELU else total, out, r * tile + i * lanes)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def tile_scatter(
    typing_context: Any,
    G: Any, STRIDE: Any, TILE: Any, SUB: Any, LANES: Any,
    w: Any, columns: Any, n: Any, dy: Any, dx: Any,
) -> Any:  # fmt: skip
    """dx[columns[k]] += sum over the rows r of a group of w[k, r] * dy[r]."""
    signature = types.void(G, STRIDE, TILE, SUB, LANES, w, columns, types.intp, dy, dx)
    g, stride, tile, sub, lanes = (t.literal_value for t in (G, STRIDE, TILE, SUB, LANES))
    vectors = sub // lanes

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w, columns, n, dy, dx = arguments[5:]
        v = Lanes(builder, lanes)
        tiles = _Columns(builder, columns, dx, tile)
        dys = [[v.load(dy, r * tile + i * lanes) for i in range(vectors)] for r in range(g)]
        with loop(builder, const(0), n) as k:
            tile_k = tiles[k]
            base = builder.mul(k, const(stride))
            weights = [
                v.splat(builder.load(builder.gep(w, [builder.add(base, const(r))])))
                for r in range(g)
            ]
            for i in range(vectors):
                total = v.load(tile_k, i * lanes)
                for r in range(g):
                    total = v.fma(weights[r], dys[r][i], total)
                v.store(total, tile_k, i * lanes)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def tile_dots(
    typing_context: Any,
    G: Any, STRIDE: Any, TILE: Any, TILES: Any, LANES: Any, DOTS: Any, REGISTERS: Any,
    columns: Any, n: Any, dy: Any, dy_step: Any, x: Any, x_step: Any, dw: Any, fresh: Any,
) -> Any:  # fmt: skip
    """dw[k, r] = (0 if fresh else dw[k, r]) + dot(dy[r], x[columns[k]]) over TILES tiles.

    `DOTS` products are summed over vectors first and share one horizontal sum; `dy_step` and
    `x_step` lead from tile to tile.
    """
    size = types.intp
    signature = types.void(
        G, STRIDE, TILE, TILES, LANES, DOTS, REGISTERS, columns, size, dy, size, x, size, dw,
        types.boolean,
    )  # fmt: skip
    g, stride, tile, together, lanes, dots, registers = (
        t.literal_value for t in (G, STRIDE, TILE, TILES, LANES, DOTS, REGISTERS)
    )
    # One row of several is that of a short last group: what it costs does not matter.
    step = 1 if g == 1 != stride else dots // g
    places = [(t, i) for t in range(together) for i in range(0, tile, lanes)]

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        columns, n, dy, dy_step, x, x_step, dw, fresh = arguments[7:]
        v = Lanes(builder, lanes)
        resident = g * len(places) + dots + 4 <= registers

        def of_tile(pointer: Any, step: Any, t: int) -> Any:
            return builder.gep(pointer, [builder.mul(step, const(t))])

        tiles = [_Columns(builder, columns, of_tile(x, x_step, t), tile) for t in range(together)]
        rows = [of_tile(dy, dy_step, t) for t in range(together)]

        def load_dy(t: int, i: int) -> list[Any]:
            return [v.load(rows[t], r * tile + i) for r in range(g)]

        held = {place: load_dy(*place) for place in places} if resident else {}

        def products(ks: list[Any]) -> list[Any]:
            """Return vectors of the dots of columns `ks` with the rows, rows fastest."""
            tile_ks = [[of[k] for of in tiles] for k in ks]
            sums: list[list[Any]] = [[None] * g for _ in ks]
            cells = [(c, place) for c in range(len(ks)) for place in places]
            loaded = held
            for c, place in cells if resident else sorted(cells, key=lambda cell: cell[1]):
                if place not in loaded:
                    loaded = {place: load_dy(*place)}
                xs = v.load(tile_ks[c][place[0]], place[1])
                for r, operand in enumerate(loaded[place]):
                    so_far = sums[c][r]
                    sums[c][r] = (
                        builder.fmul(operand, xs) if so_far is None else v.fma(operand, xs, so_far)
                    )
            flat = [s for column in sums for s in column]
            return [v.sums(flat[i : i + lanes]) for i in range(0, len(flat), lanes)]

        def columns_from(k: Any, count: int) -> None:
            for j, total in enumerate(products([builder.add(k, const(c)) for c in range(count)])):
                width = total.type.count
                few = Lanes(builder, width if stride == g else min(g, width))
                for part in range(0, width, few.lanes):
                    c, r = divmod(j * lanes + part, g)
                    place = builder.add(builder.mul(k, const(stride)), const(c * stride + r))
                    old = builder.select(fresh, few.zero, few.load(dw, place))
                    sums = v.shuffle(total, total, range(part, part + few.lanes))
                    few.store(builder.fadd(old, sums), dw, place)

        whole = builder.sub(n, builder.urem(n, const(step)))
        with loop(builder, const(0), whole, step) as k:
            columns_from(k, step)
        count = step // 2
        while count:
            # `n` is cut into powers of two: those below `step` occur once or not at all.
            bit = builder.and_(n, const(count))
            with builder.if_then(builder.icmp_unsigned("!=", bit, const(0))):
                columns_from(builder.and_(n, const(-2 * count)), count)
            count //= 2
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def tile_sum(typing_context: Any, TILE: Any, LANES: Any, x: Any) -> Any:
    """Return the sum of the samples of one feature of a tile."""
    signature = types.float32(TILE, LANES, x)
    tile, lanes = TILE.literal_value, LANES.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Lanes(builder, lanes)
        total = v.load(arguments[2])
        for i in range(1, tile // lanes):
            total = builder.fadd(total, v.load(arguments[2], i * lanes))
        return v.total(total)

    return signature, codegen
