"""Vector code inside Numba kernels: LLVM instructions on explicit vectors.

Numba's own loops do not keep a tile of sums in registers over a whole row; vectors written down
as LLVM types do, and LLVM turns them into AVX-512, AVX2 or NEON. Loads and stores claim no more
than the alignment of their elements, so any array may be passed. Nothing here assumes the absence
of NaN or infinities, and nothing reorders sums beyond what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import cgutils as untyped_cgutils
from numba.core import types as untyped_types

cgutils: Any = untyped_cgutils
types: Any = untyped_types

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
BYTE = ir.IntType(8)
LINE = 16
"""Floats of a cache line."""

_LINES_AHEAD = 24  # of what another core has written, which comes as slowly as from memory


def intrinsic(function: Callable[..., Any]) -> Any:
    """Make a function of LLVM code callable in kernels; its literal arguments are constants."""
    return extending.intrinsic(prefer_literal=True)(function)


def const(value: int) -> ir.Constant:
    """Return a 64-bit integer constant."""
    return ir.Constant(I64, value)


def widen(builder: Any, value: Any) -> Any:
    """Return an unsigned index as a 64-bit integer."""
    return builder.zext(value, I64) if value.type.width < 64 else value


class Lanes:
    """Emits operations on vectors of `lanes` floats."""

    def __init__(self, builder: Any, lanes: int) -> None:
        self.builder, self.lanes = builder, lanes
        self.type = ir.VectorType(F32, lanes)
        self.zero = ir.Constant(self.type, [0.0] * lanes)

    def load(self, pointer: Any, offset: Any = 0) -> Any:
        """Load a vector that starts `offset` floats after `pointer`."""
        return self.builder.load(self._at(pointer, offset), align=4)

    def store(self, vector: Any, pointer: Any, offset: Any = 0) -> None:
        """Store a vector `offset` floats after `pointer`."""
        self.builder.store(vector, self._at(pointer, offset), align=4)

    def _at(self, pointer: Any, offset: Any) -> Any:
        offset = const(offset) if isinstance(offset, int) else offset
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.type.as_pointer())

    def splat(self, scalar: Any) -> Any:
        """Return a vector with `scalar` in all lanes."""
        undefined = ir.Constant(self.type, ir.Undefined)
        vector = self.builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.shuffle(vector, undefined, [0] * self.lanes)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return a * b + c, fused where the machine can."""
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.type, [self.type] * 3),
            f"llvm.fmuladd.v{self.lanes}f32",
        )
        return self.builder.call(function, [a, b, c])

    def shuffle(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        """Pick lanes of the concatenation of `a` and `b`."""
        mask = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
        return self.builder.shuffle_vector(a, b, mask)

    def relu(self, vector: Any) -> Any:
        """Return max(vector, 0), NaN where the vector is NaN."""
        negative = self.builder.fcmp_ordered("<=", vector, self.zero)
        return self.builder.select(negative, self.zero, vector)

    def total(self, vector: Any) -> Any:
        """Return the sum of the lanes."""
        width = self.lanes
        while width > 1:
            width //= 2
            rest = [width + lane % width for lane in range(self.lanes)]
            vector = self.builder.fadd(vector, self.shuffle(vector, vector, rest))
        return self.builder.extract_element(vector, ir.Constant(I32, 0))

    def _stages(self) -> list[tuple[list[int], list[int]]]:
        """Return the pair of shuffles of each stage of `sums` and `transpose`.

        Two stages within 128 bits, where shuffles are cheapest, then halvings across them: block
        j of the result comes from block 2 j, or 2 j + 1, of the first operand, then the second.
        """

        def mask(pick: Callable[[int], tuple[int, int]]) -> list[int]:
            return [operand * self.lanes + lane for operand, lane in map(pick, range(self.lanes))]

        def interleave(hi: int) -> list[int]:
            return mask(lambda i: (i % 2, i // 4 * 4 + i % 4 // 2 + 2 * hi))

        def concatenate(hi: int) -> list[int]:
            return mask(lambda i: (i % 4 // 2, i // 4 * 4 + i % 2 + 2 * hi))

        def halve(hi: int) -> list[int]:
            half = self.lanes // 2
            return mask(lambda i: (i // half, i % half // 4 * 8 + i % 4 + 4 * hi))

        across = (self.lanes // 4).bit_length() - 1
        kinds = [interleave, concatenate, *[halve] * across]
        return [(kind(0), kind(1)) for kind in kinds]

    def sums(self, vectors: Sequence[Any]) -> Any:
        """Return a vector whose lane i is the sum of the lanes of `vectors[i]`.

        It has as many lanes as there are vectors: a power of two, `lanes` at most. Fewer than
        `lanes` vectors run out of partners before the last stage; then halves of a vector are
        added, of each block of 128 bits or across them.
        """
        level, lanes, block = list(vectors), self.lanes, 4
        for stage, (low, high) in enumerate(self._stages()):
            if len(level) > 1:
                pairs = zip(level[::2], level[1::2], strict=True)
                level = [
                    self.builder.fadd(self.shuffle(a, b, low), self.shuffle(a, b, high))
                    for a, b in pairs
                ]
                continue
            width = block if stage < 2 else 2 * block
            halves = [
                [i for i in range(lanes) if (i % width < width // 2) == first]
                for first in (True, False)
            ]
            first, second = (self.shuffle(level[0], level[0], half) for half in halves)
            level, lanes = [self.builder.fadd(first, second)], lanes // 2
            block = block // 2 if stage < 2 else block
        return level[0]

    def transpose(self, rows: Sequence[Any]) -> list[Any]:
        """Return the columns of `lanes` rows."""
        groups = [[row] for row in rows]
        for low, high in self._stages():
            groups = [
                [self.shuffle(a, b, m) for a, b in zip(g, h, strict=True) for m in (low, high)]
                for g, h in zip(groups[::2], groups[1::2], strict=True)
            ]
        columns: list[Any] = [None] * self.lanes
        stages = self.lanes.bit_length() - 1
        for position, vector in enumerate(groups[0]):
            bits = [position >> (stages - 1 - stage) & 1 for stage in range(stages)]
            block = sum(bit << power for power, bit in enumerate(bits[2:]))
            columns[4 * block + 2 * bits[0] + bits[1]] = vector
        return columns


@contextmanager
def loop(builder: Any, start: Any, stop: Any, step: int = 1) -> Iterator[Any]:
    """Emit `for index in range(start, stop, step)` around the body."""
    with cgutils.for_range_slice(builder, start, stop, const(step), intp=I64) as (index, _):
        yield index


@intrinsic
def at(typing_context: Any, array: Any, offset: Any) -> Any:
    """Return the address of the element `offset` elements into a contiguous array."""
    signature = types.CPointer(array.dtype)(array, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return signature, codegen


def emit_prefetch(builder: Any, pointer: Any, offsets: Sequence[Any], write: bool = False) -> None:
    """Emit prefetches, to the first-level cache, of the lines of some floats after `pointer`."""
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), I32, I32, I32]),
        "llvm.prefetch.p0i8",
    )
    for offset in offsets:
        place = builder.bitcast(builder.gep(pointer, [offset]), BYTE.as_pointer())
        builder.call(function, [place, *(ir.Constant(I32, fact) for fact in (int(write), 3, 1))])


@intrinsic
def add_floats(typing_context: Any, lanes: Any, target: Any, source: Any, n: Any) -> Any:
    """target[i] += source[i] for i below n; both are asked for before they are needed."""
    signature = types.void(lanes, target, source, types.intp)
    count = lanes.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, target, source, n = arguments
        v = Lanes(builder, count)
        whole = builder.and_(n, const(-LINE))
        with loop(builder, const(0), whole, LINE) as i:
            later = [builder.add(i, const(_LINES_AHEAD * LINE))]
            emit_prefetch(builder, source, later)
            emit_prefetch(builder, target, later, write=True)
            for part in range(0, LINE, count):
                place = builder.add(i, const(part))
                total = builder.fadd(v.load(target, place), v.load(source, place))
                v.store(total, target, place)
        with loop(builder, whole, n) as i:
            place = builder.gep(target, [i])
            total = builder.fadd(builder.load(place), builder.load(builder.gep(source, [i])))
            builder.store(total, place)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def transpose_block(
    typing_context: Any, lanes: Any, source: Any, stride: Any, target: Any, target_stride: Any
) -> Any:
    """Transpose a square of `lanes` rows; strides of rows are in elements."""
    signature = types.void(lanes, source, types.intp, target, types.intp)
    count = lanes.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, source, stride, target, target_stride = arguments
        v = Lanes(builder, count)
        rows = [v.load(source, builder.mul(stride, const(i))) for i in range(count)]
        for i, column in enumerate(v.transpose(rows)):
            v.store(column, target, builder.mul(target_stride, const(i)))
        return context.get_dummy_value()

    return signature, codegen
