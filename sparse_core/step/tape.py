"""Kernels called one after the other by a single compiled function.

A call of a kernel from Python costs as much as a small kernel does: arguments are brought together
and each array is unpacked anew. Where the arrays stay that is done once, in a `Tape`, and running
it is one call, however many kernels there are. It runs the kernels themselves, so nothing is
compiled for a network, and results are those of calls from Python to the bit.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.jit import kernel, once
from sparse_core.step.calls import Call, call_table

STOP, DONE = 0, 1
"""Entries of `Tape.control`: what a kernel sets to end a run, and rounds that were completed."""

Control = NDArray[np.int64]


class Tape:
    """Calls of kernels, and of Python functions between them, in order.

    Attributes:
        control: (2,) int64; see `STOP` and `DONE`.
    """

    def __init__(self) -> None:
        self.control: Control = np.zeros(2, np.int64)
        self._steps: list[Callable[[], Any] | list[Call]] = []
        self._ready: list[Callable[[int], None]] | None = None

    def call(self, function: Any, *arguments: Any) -> Call:
        """Add a call of a kernel; see `Call`."""
        made = Call(function, arguments)
        if not self._steps or not isinstance(self._steps[-1], list):
            self._steps.append([])
        last = self._steps[-1]
        assert isinstance(last, list)
        last.append(made)
        self._ready = None
        return made

    def do(self, step: Callable[[], Any]) -> None:
        """Add a call of a Python function."""
        self._steps.append(step)
        self._ready = None

    def run(self, rounds: int = 1) -> int:
        """Make all calls, several times over; return how many rounds were completed."""
        ready = self._ready
        if ready is None:
            ready = self._ready = [self._made(step) for step in self._steps]
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

    def _made(self, step: Callable[[], Any] | list[Call]) -> Callable[[int], None]:
        if not isinstance(step, list):
            function = step
            return lambda rounds: function()
        run, control = run_kernel(), self.control
        addresses = np.array([call.address for call in step], np.int64)
        return lambda rounds: run(addresses, rounds, control)


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
