"""What one entry of a tensor goes through in an optimizer's step, in vectors.

Formulas and order of operations are torch's (`torch.optim`, the single-tensor path), so that
results agree to a few units in the last place. An entry is treated alike in whole vectors and in
what is left over at the end of a tensor: masked and condensed weights, which lie at different
places, take the same steps to the bit. Only subnormal moments are zero here: those of a weight
without a gradient decay to such numbers, stay there in torch, and make each step many times dearer.

A lazy step looks at the gradient alone where that is zero, as it is in the rows of an embedding
that no token of the batch named.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from llvmlite import ir
from numba.core import cgutils as untyped_cgutils
from numba.core import types

from sparse_core.kernels.simd import F32, I32, I64, Lanes, intrinsic, loop

cgutils: Any = untyped_cgutils

STATES = 3
"""Columns of a table for state: an optimizer's moments, in the order of `Rule.states`."""

PARAMETER, GRADIENT, FIRST_STATE, TARGET, SIZE = 0, 1, 2, 2 + STATES, 3 + STATES
SIGN, DECAY, SHRINK, STEP, TAU, OWN = range(6)
"""Columns of the numbers that all rules have; an optimizer's own begin at `OWN`."""

NUMBERS = OWN + 6


@dataclass(frozen=True)
class Rule:
    """An optimizer with those of its options that need code of their own.

    Attributes:
        name: `adam`, `sgd` or `rmsprop`.
        momentum: Whether SGD or RMSprop keeps a momentum buffer.
        nesterov: Whether SGD looks ahead along it.
        amsgrad: Whether Adam divides by the largest second moment so far.
        centered: Whether RMSprop subtracts the squared mean of gradients.
        eps_inside: Whether RMSprop adds epsilon below the root, as TensorFlow does.
        polyak: Whether a target follows the parameters.
        lazy: Whether entries whose gradient is zero keep their value and state.
    """

    name: str
    momentum: bool = False
    nesterov: bool = False
    amsgrad: bool = False
    centered: bool = False
    eps_inside: bool = False
    polyak: bool = False
    lazy: bool = False

    @property
    def states(self) -> tuple[str, ...]:
        """What is kept for each entry, by torch's names, in the order of the table's columns."""
        if self.name == "adam":
            names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * self.amsgrad
        elif self.name == "sgd":
            names = ["momentum_buffer"] * self.momentum
        else:
            names = ["square_avg"] + ["grad_avg"] * self.centered
            names += ["momentum_buffer"] * self.momentum
        return tuple(names)

    def encode(self) -> str:
        """Return the rule as words, which kernels take for a constant."""
        flags = [field.name for field in fields(self) if getattr(self, field.name) is True]
        return " ".join([self.name, *flags])

    @classmethod
    def decode(cls, words: str) -> Rule:
        """Return the rule of words."""
        name, *flags = words.split()
        return cls(name, **dict.fromkeys(flags, True))


class _Entry:
    """One vector of a tensor's entries: what is loaded, computed and stored."""

    def __init__(
        self, v: Lanes, pointers: Sequence[Any], numbers: Sequence[Any], at: Any, mask: Any
    ) -> None:
        self.v, self.b, self.numbers = v, v.builder, numbers
        self._pointers, self._at, self._mask = pointers, at, mask
        self.p = self.b.fmul(self.load(PARAMETER), numbers[SHRINK])
        gradient = self.b.fmul(self.load(GRADIENT), numbers[SIGN])
        self.g = v.fma(self.p, numbers[DECAY], gradient)

    def load(self, column: int) -> Any:
        return self.v.load(self._pointers[column], self._at)

    def store(self, vector: Any, column: int) -> None:
        if self._mask is not None:
            vector = self.b.select(self._mask, vector, self.load(column))
        self.v.store(vector, self._pointers[column], self._at)

    def keep(self, moment: Any, column: int) -> Any:
        """Store a moment, and return it; zero in place of subnormal numbers."""
        integers = ir.VectorType(I32, self.v.lanes)
        exponent = ir.Constant(integers, [0x7F800000] * self.v.lanes)
        bits = self.b.and_(self.b.bitcast(moment, integers), exponent)
        is_normal = self.b.icmp_unsigned("!=", bits, ir.Constant(integers, [0] * self.v.lanes))
        moment = self.b.select(is_normal, moment, self.v.zero)
        self.store(moment, column)
        return moment

    def sqrt(self, vector: Any) -> Any:
        kind = ir.FunctionType(self.v.type, [self.v.type])
        name = f"llvm.sqrt.v{self.v.lanes}f32"
        return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, name), [vector])

    def lerp(self, mean: Any, weight: Any, near: Any) -> Any:
        """Return mean + weight (g - mean), from the end that `near` names, as torch does."""
        is_near = self.b.fcmp_ordered(">", near, self.v.zero)
        base = self.b.select(is_near, mean, self.g)
        return self.v.fma(weight, self.b.fsub(self.g, mean), base)

    def decayed_square(self, mean: Any, keep: Any, gain: Any) -> Any:
        """Return keep * mean + gain * g^2."""
        return self.v.fma(self.b.fmul(gain, self.g), self.g, self.b.fmul(mean, keep))

    def largest(self, a: Any, b: Any) -> Any:
        """Return the larger of two vectors, NaN where one is NaN."""
        keep = self.b.fcmp_ordered("<=", b, a)
        keep = self.b.or_(keep, self.b.fcmp_unordered("uno", a, a))
        return self.b.select(keep, a, b)

    def move(self, vector: Any) -> None:
        """Add `vector` times the step to the parameter."""
        self.p = self.v.fma(self.numbers[STEP], vector, self.p)

    def move_ratio(self, above: Any, below: Any) -> None:
        """Add the step times above / below to the parameter."""
        ratio = self.b.fdiv(self.b.fmul(self.numbers[STEP], above), below)
        self.p = self.b.fadd(self.p, ratio)


def _adam(e: _Entry, rule: Rule) -> None:
    lerp, near, keep, gain, correction, eps = e.numbers[OWN:]
    first = e.keep(e.lerp(e.load(FIRST_STATE), lerp, near), FIRST_STATE)
    second = e.decayed_square(e.load(FIRST_STATE + 1), keep, gain)
    second = e.keep(second, FIRST_STATE + 1)
    if rule.amsgrad:
        second = e.keep(e.largest(e.load(FIRST_STATE + 2), second), FIRST_STATE + 2)
    e.move_ratio(first, e.b.fadd(e.b.fdiv(e.sqrt(second), correction), eps))


def _sgd(e: _Entry, rule: Rule) -> None:
    ahead, gain, keep = e.numbers[OWN : OWN + 3]
    direction = e.g
    if rule.momentum:
        buffer = e.v.fma(gain, e.g, e.b.fmul(e.load(FIRST_STATE), keep))
        buffer = e.keep(buffer, FIRST_STATE)
        direction = e.v.fma(ahead, buffer, e.g) if rule.nesterov else buffer
    e.move(direction)


def _rmsprop(e: _Entry, rule: Rule) -> None:
    keep, gain, lerp, near, eps, momentum = e.numbers[OWN:]
    square = e.keep(e.decayed_square(e.load(FIRST_STATE), keep, gain), FIRST_STATE)
    if rule.centered:
        mean = e.keep(e.lerp(e.load(FIRST_STATE + 1), lerp, near), FIRST_STATE + 1)
        square = e.b.fsub(square, e.b.fmul(mean, mean))
    if rule.eps_inside:
        root = e.sqrt(e.b.fadd(square, eps))
    else:
        root = e.b.fadd(e.sqrt(square), eps)
    if rule.momentum:
        column = FIRST_STATE + 1 + rule.centered
        buffer = e.b.fadd(e.b.fmul(e.load(column), momentum), e.b.fdiv(e.g, root))
        buffer = e.keep(buffer, column)
        e.move(buffer)
    else:
        e.move_ratio(e.g, root)


_RULES = {"adam": _adam, "sgd": _sgd, "rmsprop": _rmsprop}


@intrinsic
def step_row(typing_context: Any, WHICH: Any, LANES: Any, line: Any, numbers: Any) -> Any:
    """Make the step of one tensor, whose line of the table and whose numbers these are."""
    signature = types.void(WHICH, LANES, line, numbers)
    rule = Rule.decode(WHICH.literal_value)
    lanes = LANES.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def data(place: int) -> Any:
            array = context.make_array(signature.args[place])(context, builder, arguments[place])
            return array.data

        def element(pointer: Any, index: int) -> Any:
            return builder.load(builder.gep(pointer, [ir.Constant(I64, index)]))

        line, row = data(2), data(3)
        pointers = [
            builder.inttoptr(element(line, column), F32.as_pointer()) for column in range(SIZE)
        ]
        size = element(line, SIZE)
        scalars = [element(row, column) for column in range(NUMBERS)]
        whole = builder.and_(size, ir.Constant(I64, -lanes))
        for width, start, stop in ((lanes, ir.Constant(I64, 0), whole), (1, whole, size)):
            v = Lanes(builder, width)
            every = [v.splat(scalar) for scalar in scalars]
            with loop(builder, start, stop, width) as at:
                if not rule.lazy:
                    _step(_Entry(v, pointers, every, at, None), rule)
                    continue
                mask = builder.fcmp_unordered("une", v.load(pointers[GRADIENT], at), v.zero)
                bits = builder.bitcast(mask, ir.IntType(width))
                some = builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))
                with builder.if_then(some):
                    _step(_Entry(v, pointers, every, at, mask), rule)
        return context.get_dummy_value()

    return signature, codegen


def _step(entry: _Entry, rule: Rule) -> None:
    """Make the step of one vector of entries, and of the target that follows them."""
    v, builder = entry.v, entry.b
    _RULES[rule.name](entry, rule)
    entry.store(entry.p, PARAMETER)
    if rule.polyak:
        target, tau = entry.load(TARGET), entry.numbers[TAU]
        one = ir.Constant(v.type, [1.0] * v.lanes)
        kept = builder.fmul(target, builder.fsub(one, tau))
        entry.store(v.fma(tau, entry.p, kept), TARGET)


@intrinsic
def add_one(typing_context: Any, address: Any) -> Any:
    """Add one to the float32 at an address and return the sum."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], F32.as_pointer())
        total = builder.fadd(builder.load(pointer), ir.Constant(F32, 1.0))
        builder.store(total, pointer)
        return total

    return types.float32(types.int64), codegen
