"""The inner kernels of convolutions: a group of filters on a patch of pixels, in registers.

Notation: a group has `g` filters that share `n` weights of places in the input; `w` (n, g) are the
weights and `offsets` (n,) where each of them reads, in floats from the input of the patch's first
pixel. A patch is ROWS x COLUMNS output pixels, a pixel is TILE samples side by side. `row` and
`plane` lead from row to row of a patch and from channel to channel, in floats; in the input,
pixels of a row are STRIDE apart. Upper-case parameters are constants of the machine code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types

from sparse_core.kernels.simd import Lanes, cgutils, const, intrinsic, loop

_CHAINS = 4  # independent sums of a product, which hide the latency of adds

Place = tuple[Any, int]


class _Patch:
    """Addresses of the vectors of a patch: `row` floats from row to row, `step` pixels in a row."""

    def __init__(
        self, builder: Any, shape: tuple[int, int], tile: int, lanes: int, row: Any, step: int = 1
    ) -> None:
        rows, columns = shape
        self.builder = builder
        self.starts = [builder.mul(row, const(i)) for i in range(rows)]
        self.steps = [
            step * p * tile + part for p in range(columns) for part in range(0, tile, lanes)
        ]

    def __call__(self, base: Any) -> list[Place]:
        """Return pointer and offset in floats of each vector of the patch that begins at `base`."""
        rows = [self.builder.gep(base, [start]) for start in self.starts]
        return [(pointer, step) for pointer in rows for step in self.steps]

    def planes(self, base: Any, plane: Any, count: int) -> list[list[Place]]:
        """Return the patches of `count` channels."""
        mul, gep = self.builder.mul, self.builder.gep
        return [self(gep(base, [mul(plane, const(r))])) for r in range(count)]


class _Weights:
    """Emits loads of a group's weights, and of the addresses that they read."""

    def __init__(self, v: Lanes, group: int, offsets: Any, values: Any = None) -> None:
        self.v, self.group, self.offsets, self.values = v, group, offsets, values

    def operand(self, base: Any, k: Any) -> Any:
        """Return the address that weight k reads, or adds to, for the patch's first pixel."""
        builder = self.v.builder
        offset = builder.load(builder.gep(self.offsets, [k]))
        return builder.gep(base, [builder.sext(offset, k.type)])

    def splats(self, k: Any) -> list[Any]:
        """Return weight k of each filter, in all lanes of a vector."""
        builder = self.v.builder
        base = builder.mul(k, const(self.group))
        places = [builder.add(base, const(r)) for r in range(self.group)]
        return [self.v.splat(builder.load(builder.gep(self.values, [p]))) for p in places]


def _literals(*constants: Any) -> list[Any]:
    return [constant.literal_value for constant in constants]


@intrinsic
def patch_sums(
    typing_context: Any,
    G: Any, TILE: Any, LANES: Any, ROWS: Any, COLUMNS: Any, STRIDE: Any,
    w: Any, offsets: Any, n: Any, x: Any, x_row: Any, bias: Any, out: Any, row: Any, plane: Any,
    fresh: Any,
) -> Any:  # fmt: skip
    """out[r, q] = (bias[r] if fresh else out[r, q]) + sum over k of w[k, r] * x[offsets[k] + q]."""
    size = types.intp
    signature = types.void(
        G, TILE, LANES, ROWS, COLUMNS, STRIDE, w, offsets, size, x, size, bias, out, size, size,
        types.boolean,
    )  # fmt: skip
    g, tile, lanes, rows, columns, stride = _literals(G, TILE, LANES, ROWS, COLUMNS, STRIDE)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w, offsets, n, x, x_row, bias, out, row, plane, fresh = arguments[6:]
        v = Lanes(builder, lanes)
        weights = _Weights(v, g, offsets, w)
        source = _Patch(builder, (rows, columns), tile, lanes, x_row, stride)
        places = _Patch(builder, (rows, columns), tile, lanes, row).planes(out, plane, g)
        sums = [[cgutils.alloca_once(builder, v.type) for _ in patch] for patch in places]
        with builder.if_else(fresh) as (first, later):
            with first:
                for r in range(g):
                    start = v.splat(builder.load(builder.gep(bias, [const(r)])))
                    for total in sums[r]:
                        builder.store(start, total)
            with later:
                for r in range(g):
                    for total, place in zip(sums[r], places[r], strict=True):
                        builder.store(v.load(*place), total)
        with loop(builder, const(0), n) as k:
            splats = weights.splats(k)
            for i, place in enumerate(source(weights.operand(x, k))):
                operand = v.load(*place)
                for r in range(g):
                    total = sums[r][i]
                    builder.store(v.fma(splats[r], operand, builder.load(total)), total)
        for r in range(g):
            for total, place in zip(sums[r], places[r], strict=True):
                v.store(builder.load(total), *place)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def patch_scatter(
    typing_context: Any,
    G: Any, TILE: Any, LANES: Any, ROWS: Any, COLUMNS: Any, STRIDE: Any,
    w: Any, offsets: Any, n: Any, dy: Any, row: Any, plane: Any, dx: Any, x_row: Any,
) -> Any:  # fmt: skip
    """dx[offsets[k] + q] += sum over r of w[k, r] * dy[r, q]."""
    size = types.intp
    signature = types.void(
        G, TILE, LANES, ROWS, COLUMNS, STRIDE, w, offsets, size, dy, size, size, dx, size
    )
    g, tile, lanes, rows, columns, stride = _literals(G, TILE, LANES, ROWS, COLUMNS, STRIDE)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        w, offsets, n, dy, row, plane, dx, x_row = arguments[6:]
        v = Lanes(builder, lanes)
        weights = _Weights(v, g, offsets, w)
        target = _Patch(builder, (rows, columns), tile, lanes, x_row, stride)
        patches = _Patch(builder, (rows, columns), tile, lanes, row).planes(dy, plane, g)
        held = [[v.load(*place) for place in patch] for patch in patches]
        with loop(builder, const(0), n) as k:
            splats = weights.splats(k)
            places = target(weights.operand(dx, k))
            totals = [v.load(*place) for place in places]
            for r in range(g):
                totals = [v.fma(splats[r], d, s) for d, s in zip(held[r], totals, strict=True)]
            for total, place in zip(totals, places, strict=True):
                v.store(total, *place)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def patch_dots(
    typing_context: Any,
    G: Any, TILE: Any, LANES: Any, ROWS: Any, COLUMNS: Any, STRIDE: Any,
    offsets: Any, n: Any, x: Any, x_row: Any, dy: Any, row: Any, plane: Any, partial: Any,
    fresh: Any,
) -> Any:  # fmt: skip
    """partial[k, r] = (0 if fresh else partial[k, r]) + sum over q of dy[r, q] * x[offsets[k] + q].

    `partial` holds a vector for each weight: lanes are not added up.
    """
    size = types.intp
    signature = types.void(
        G, TILE, LANES, ROWS, COLUMNS, STRIDE, offsets, size, x, size, dy, size, size, partial,
        types.boolean,
    )  # fmt: skip
    g, tile, lanes, rows, columns, stride = _literals(G, TILE, LANES, ROWS, COLUMNS, STRIDE)
    chains = max(1, _CHAINS // g)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        offsets, n, x, x_row, dy, row, plane, partial, fresh = arguments[6:]
        v = Lanes(builder, lanes)
        weights = _Weights(v, g, offsets)
        source = _Patch(builder, (rows, columns), tile, lanes, x_row, stride)
        patches = _Patch(builder, (rows, columns), tile, lanes, row).planes(dy, plane, g)
        held = [[v.load(*place) for place in patch] for patch in patches]

        def add(k: Any, old: Callable[[Any], Any]) -> None:
            base = builder.mul(k, const(g * lanes))
            places = [builder.add(base, const(r * lanes)) for r in range(g)]
            sums: list[list[Any]] = [[old(place)] + [None] * (chains - 1) for place in places]
            for i, place in enumerate(source(weights.operand(x, k))):
                operand, chain = v.load(*place), i % chains
                for r in range(g):
                    d, s = held[r][i], sums[r][chain]
                    sums[r][chain] = builder.fmul(d, operand) if s is None else v.fma(d, operand, s)
            for row_sums, place in zip(sums, places, strict=True):
                total = row_sums[0]
                for other in row_sums[1:]:
                    total = total if other is None else builder.fadd(total, other)
                v.store(total, partial, place)

        with builder.if_else(fresh) as (first, later):
            with first, loop(builder, const(0), n) as k:
                add(k, lambda _: v.zero)
            with later, loop(builder, const(0), n) as k:
                add(k, lambda place: v.load(partial, place))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_lanes(typing_context: Any, LANES: Any, partial: Any, n: Any, dw: Any) -> Any:
    """dw[i] += sum of the lanes of partial[i], for i below n."""
    signature = types.void(LANES, partial, types.intp, dw)
    lanes = LANES.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, partial, n, dw = arguments
        v = Lanes(builder, lanes)

        def vector(i: Any) -> Any:
            return v.load(partial, builder.mul(i, const(lanes)))

        whole = builder.sub(n, builder.urem(n, const(lanes)))
        with loop(builder, const(0), whole, lanes) as i:
            total = v.sums([vector(builder.add(i, const(j))) for j in range(lanes)])
            v.store(builder.fadd(v.load(dw, i), total), dw, i)
        with loop(builder, whole, n) as i:
            place = builder.gep(dw, [i])
            builder.store(builder.fadd(builder.load(place), v.total(vector(i))), place)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def run_sum(typing_context: Any, TILE: Any, LANES: Any, x: Any, pixels: Any) -> Any:
    """Return the sum of all samples of consecutive pixels."""
    signature = types.float32(TILE, LANES, x, types.intp)
    tile, lanes = _literals(TILE, LANES)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, x, pixels = arguments
        v = Lanes(builder, lanes)
        total = cgutils.alloca_once_value(builder, v.zero)
        with loop(builder, const(0), builder.mul(pixels, const(tile)), lanes) as i:
            builder.store(builder.fadd(builder.load(total), v.load(x, i)), total)
        return v.total(builder.load(total))

    return signature, codegen


@intrinsic
def copy_square(
    typing_context: Any, LANES: Any, INWARD: Any, image: Any, sample: Any, valid: Any, places: Any,
    tile: Any,
) -> Any:  # fmt: skip
    """Copy LANES numbers of as many samples from images into a tile (INWARD), or back.

    They are consecutive in the images, whose samples lie `sample` floats apart; in the tile they
    begin at `places`. Samples from `valid` on, of which there is one at least, are read as zeros
    and not written.
    """
    size = types.intp
    signature = types.void(LANES, INWARD, image, size, size, places, tile)
    lanes, inward = _literals(LANES, INWARD)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, image, sample, valid, places, tile = arguments
        v = Lanes(builder, lanes)
        last = builder.sub(valid, const(1))

        def of_sample(i: int) -> Place:
            beyond = builder.icmp_signed(">", const(i), last)
            there = builder.select(beyond, last, const(i))
            return builder.gep(image, [builder.mul(sample, there)]), 0

        def of_place(i: int) -> Place:
            place = builder.load(builder.gep(places, [const(i)]))
            return builder.gep(tile, [builder.sext(place, const(0).type)]), 0

        samples = [of_sample(i) for i in range(lanes)]
        pixels = [of_place(i) for i in range(lanes)]
        if inward:
            whole = [v.load(*place) for place in samples]
            rows = [
                builder.select(builder.icmp_signed(">", valid, const(i)), row, v.zero)
                for i, row in enumerate(whole)
            ]
            for vector, place in zip(v.transpose(rows), pixels, strict=True):
                v.store(vector, *place)
            return context.get_dummy_value()
        columns = v.transpose([v.load(*place) for place in pixels])
        # Samples that do not count go where the last one goes, before it.
        for vector, place in list(zip(columns, samples, strict=True))[::-1]:
            v.store(vector, *place)
        return context.get_dummy_value()

    return signature, codegen
