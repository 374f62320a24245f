"""Kernels called one after the other by a single compiled function.

A call of a kernel from Python costs as much as a small kernel does: arguments are brought together
and each array is unpacked anew. Where the arrays stay that is done once, in a `Tape`, and running
it is one call, however many kernels there are. It runs the kernels themselves, so nothing is
compiled for a network, and results are those of calls from Python to the bit.

What changes with a topology is laid in sections of a tape, which are laid anew when it has moved;
all else stays. Between two marks a tape runs in part.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.jit import kernel, once
from sparse_core.step.calls import Call, call_table

STOP, DONE = 0, 1
"""Entries of `Tape.control`: what a kernel sets to end a run, and rounds that were completed."""

Control = NDArray[np.int64]


class Mark:
    """A place on a tape, between two steps."""


class _Section:
    """Steps that depend on what layers are like."""

    def __init__(self, layers: Collection[object], lay: Callable[[Tape], None]) -> None:
        self.layers, self.lay = layers, lay
        self.steps: list[_Step] = []


_Step = Callable[[], Any] | Call | _Section | Mark


class Tape:
    """Calls of kernels, and of Python functions between them, in order.

    Attributes:
        control: (2,) int64; see `STOP` and `DONE`.
    """

    def __init__(self) -> None:
        self.control: Control = np.zeros(2, np.int64)
        self._steps: list[_Step] = []
        self._into = self._steps
        self._ready: dict[tuple[Mark | None, Mark | None], list[Callable[[int], None]]] = {}

    def call(self, function: Any, *arguments: Any) -> Call:
        """Add a call of a kernel; see `Call`."""
        made = Call(function, arguments)
        self._add(made)
        return made

    def do(self, step: Callable[[], Any]) -> None:
        """Add a call of a Python function."""
        self._add(step)

    def mark(self) -> Mark:
        """Return the place where the next step will be."""
        made = Mark()
        self._add(made)
        return made

    def lay(self, layers: Collection[object], lay: Callable[[Tape], None]) -> None:
        """Add steps that are laid anew when layers have changed; see `renew`.

        Args:
            layers: On which they depend.
            lay: Adds them to the tape that it is given.
        """
        section = _Section(layers, lay)
        self._add(section)
        self._fill(section)

    def renew(self, changed: Collection[object]) -> None:
        """Lay those steps anew that depend on layers that have changed."""
        for section in self._steps:
            if isinstance(section, _Section) and any(
                layer is each for layer in section.layers for each in changed
            ):
                section.steps.clear()
                self._fill(section)

    def run(self, rounds: int = 1, begin: Mark | None = None, end: Mark | None = None) -> int:
        """Make all calls, or those between two marks, several times over.

        Returns:
            How many rounds were completed.
        """
        ready = self._ready.get((begin, end))
        if ready is None:
            ready = self._ready[begin, end] = self._made(begin, end)
        control = self.control
        control[:] = 0
        if len(ready) == 1:
            ready[0](rounds)
            return int(control[DONE])
        for count in range(rounds):
            for step in ready:
                step(1)
                if control[STOP]:
                    return count
        return rounds

    def _add(self, step: _Step) -> None:
        self._into.append(step)
        self._ready.clear()

    def _fill(self, section: _Section) -> None:
        outer, self._into = self._into, section.steps
        section.lay(self)
        self._into = outer
        self._ready.clear()

    def _made(self, begin: Mark | None, end: Mark | None) -> list[Callable[[int], None]]:
        """Return what makes the calls between two marks, as few functions as possible."""
        steps = self._steps
        first = 0 if begin is None else steps.index(begin)
        last = len(steps) if end is None else steps.index(end)
        made: list[Callable[[int], None]] = []
        tables: list[int] = []
        for step in _unfolded(steps[first:last]):
            if isinstance(step, Call):
                tables.append(step.address)
                continue
            if tables:
                made.append(_runner(tables, self.control))
                tables = []
            made.append(_repeated(step, self.control))
        if tables:
            made.append(_runner(tables, self.control))
        return made


def _unfolded(steps: list[_Step]) -> Iterator[Call | Callable[[], Any]]:
    for step in steps:
        if isinstance(step, _Section):
            yield from _unfolded(step.steps)
        elif not isinstance(step, Mark):
            yield step


def _runner(tables: list[int], control: Control) -> Callable[[int], None]:
    run, addresses = run_kernel(), np.array(tables, np.int64)
    return lambda rounds: run(addresses, rounds, control)


def _repeated(function: Callable[[], Any], control: Control) -> Callable[[int], None]:
    def run(rounds: int) -> None:
        for _ in range(rounds):
            function()
            if control[STOP]:
                return
            control[DONE] += 1

    return run


@once
def run_kernel() -> Any:
    """Return the kernel that makes the calls of tables.

    Returns:
        A function of the addresses of tables, of how often they are called over, and of
        `Tape.control`.
    """
    stop, done = STOP, DONE

    @kernel("void(int64[::1], int64, int64[::1])")
    def run(tables, rounds, control):
        for _ in range(rounds):
            for table in tables:
                call_table(table)
                if control[stop]:
                    return
            control[done] += 1

    return run
