"""Pooling of one channel of one tile, forward and backward, on vectors of samples.

Windows of `kernel` pixels lie `stride` pixels apart, the first one `before` pixels above and left
of the image; of a window only the pixels inside the image count. Planes are those of
`sparse_core.kernels.conv_planes`. Upper-case parameters are constants of the machine code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sparse_core.kernels.simd import Lanes, cgutils, const, intrinsic, loop, types

SIZES = 12
"""Integers of a pooling: rows of x and of y, height and width of both, kernel, stride, before."""


@contextmanager
def _windows(v: Lanes, tile: int, sizes: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Emit loops over the windows of a plane around the body.

    Yields:
        Begin and end of a window's rows, the same of its columns, and where its output lies.
    """
    b = v.builder
    _, y_row, height, width, out_height, out_width = sizes[:6]
    down, across = sizes[6::2], sizes[7::2]

    def inside(at: Any, window: Sequence[Any], size: Any) -> tuple[Any, Any]:
        kernel, stride, before = window
        first = b.sub(b.mul(at, stride), before)
        last = b.add(first, kernel)
        return (
            b.select(b.icmp_signed("<", first, const(0)), const(0), first),
            b.select(b.icmp_signed("<", size, last), size, last),
        )

    with loop(b, const(0), out_height) as y, loop(b, const(0), out_width) as p:
        rows, columns = inside(y, down, height), inside(p, across, width)
        yield rows, columns, b.add(b.mul(y, y_row), b.mul(p, const(tile)))


@contextmanager
def _pixels(v: Lanes, tile: int, rows: Any, columns: Any, row: Any, part: int) -> Iterator[Any]:
    """Emit loops over the pixels of a window around the body; yields where each lies."""
    b = v.builder
    with loop(b, *rows) as y, loop(b, *columns) as p:
        yield b.add(b.add(b.mul(y, row), b.mul(p, const(tile))), const(part))


def _largest(v: Lanes, tile: int, rows: Any, columns: Any, x: Any, row: Any, part: int) -> Any:
    """Return the largest number of a window, NaN if there is one."""
    b = v.builder
    first = b.add(b.mul(rows[0], row), b.add(b.mul(columns[0], const(tile)), const(part)))
    best = cgutils.alloca_once_value(b, v.load(x, first))
    with _pixels(v, tile, rows, columns, row, part) as at:
        number, so_far = v.load(x, at), b.load(best)
        larger = b.fcmp_ordered(">", number, so_far)
        larger = b.or_(larger, b.fcmp_unordered("uno", number, number))
        b.store(b.select(larger, number, so_far), best)
    return b.load(best)


def _numbers(builder: Any, sizes: Any) -> list[Any]:
    return [builder.load(builder.gep(sizes, [const(i)])) for i in range(SIZES)]


@intrinsic
def plane_pool(
    typing_context: Any, TILE: Any, LANES: Any, LARGEST: Any, x: Any, y: Any, share: Any,
    sizes: Any,
) -> Any:  # fmt: skip
    """Write the largest number of each window to y, or the sum times `share`."""
    signature = types.void(TILE, LANES, LARGEST, x, y, types.float32, sizes)
    tile, lanes, largest = (t.literal_value for t in (TILE, LANES, LARGEST))

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y, share = arguments[3:6]
        v, sizes = Lanes(builder, lanes), _numbers(builder, arguments[6])
        share, row = v.splat(share), sizes[0]
        with _windows(v, tile, sizes) as (rows, columns, to):
            for part in range(0, tile, lanes):
                if largest:
                    found = _largest(v, tile, rows, columns, x, row, part)
                else:
                    total = cgutils.alloca_once_value(builder, v.zero)
                    with _pixels(v, tile, rows, columns, row, part) as at:
                        builder.store(builder.fadd(builder.load(total), v.load(x, at)), total)
                    found = builder.fmul(builder.load(total), share)
                v.store(found, y, builder.add(to, const(part)))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def plane_unpool(
    typing_context: Any, TILE: Any, LANES: Any, LARGEST: Any, x: Any, dy: Any, dx: Any, share: Any,
    sizes: Any,
) -> Any:  # fmt: skip
    """Add the gradient of each window to dx: to its first largest number, or `share` to all."""
    signature = types.void(TILE, LANES, LARGEST, x, dy, dx, types.float32, sizes)
    tile, lanes, largest = (t.literal_value for t in (TILE, LANES, LARGEST))

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, dy, dx, share = arguments[3:7]
        v, sizes = Lanes(builder, lanes), _numbers(builder, arguments[7])
        share, row = v.splat(share), sizes[0]
        with _windows(v, tile, sizes) as (rows, columns, of_dy):
            for part in range(0, tile, lanes):
                signal = v.load(dy, builder.add(of_dy, const(part)))
                if not largest:
                    signal = builder.fmul(signal, share)
                    with _pixels(v, tile, rows, columns, row, part) as at:
                        v.store(builder.fadd(v.load(dx, at), signal), dx, at)
                    continue
                best = _largest(v, tile, rows, columns, x, row, part)
                left = cgutils.alloca_once_value(builder, signal)
                with _pixels(v, tile, rows, columns, row, part) as at:
                    hit = builder.fcmp_unordered("==", v.load(x, at), best)
                    rest = builder.load(left)
                    more = builder.select(hit, rest, v.zero)
                    v.store(builder.fadd(v.load(dx, at), more), dx, at)
                    builder.store(builder.select(hit, v.zero, rest), left)
        return context.get_dummy_value()

    return signature, codegen
