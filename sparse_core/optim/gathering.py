"""The tensors of a parameter group, checked and with their addresses: what a kernel is called with.

A look at every tensor costs a small network more than the step itself. What was found is kept while
the optimizer holds the same parameters and state at the same addresses. Gradients, which come and
go, are looked at in each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import is_
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter

from sparse_core.kernels.optimizer_steps import (
    FIRST_STATE,
    GRADIENT,
    NUMBERS,
    PARAMETER,
    SIZE,
    Rule,
)
from sparse_core.kernels.optimizers import COLUMNS, count_kernel, optimizer_kernel

State = dict[str, Any]


class Gathered:
    """Parameters and their state, ready for a kernel; `obstacles` has found none.

    Args:
        rule: The optimizer.
        parameters: What it trains.
        states: The state of each parameter, which has begun; empty if the rule keeps none.
        new: Whether it begins with the coming step.

    Attributes:
        numbers: (tensors, NUMBERS) float32, to be written before each step.
    """

    def __init__(
        self, rule: Rule, parameters: list[Tensor], states: list[State], new: list[bool]
    ) -> None:
        self._rule, self._parameters, self._states, self._new = rule, parameters, states, new
        self._counters = [state["step"] for state in states if "step" in state]
        self._names = rule.states
        self._moments = self._in_state()
        self._tensors = [*parameters, *self._moments, *self._counters]
        self._addresses = self._find()
        self._sizes = [p.numel() for p in parameters]
        n, table = len(parameters), np.zeros((len(parameters), COLUMNS), np.int64)
        table[:, SIZE], table[:, PARAMETER] = self._sizes, self._addresses[:n]
        moments = np.array(self._addresses[n : n + len(self._moments)], np.int64)
        table[:, FIRST_STATE : FIRST_STATE + len(rule.states)] = moments.reshape(-1, n).T
        self._table, self._gradients = table, table[:, GRADIENT]
        self._steps = np.array(self._addresses[n + len(self._moments) :], np.int64)
        self._counts: NDArray[np.float64] = np.empty(len(self._steps))
        self.numbers: NDArray[np.float32] = np.empty((n, NUMBERS), np.float32)
        self._run, self._count = optimizer_kernel(rule), count_kernel()

    def _in_state(self) -> list[Tensor | None]:
        """Return the moments that are in the state now."""
        return [state.get(name) for name in self._names for state in self._states]

    def _find(self) -> list[int]:
        """Return the addresses of parameters, moments and counters."""
        return list(map(Tensor.data_ptr, self._tensors))

    def holds(self, rule: Rule, parameters: list[Tensor]) -> bool:
        """Return whether these parameters, in their state of now, are what was gathered."""
        return (
            rule is self._rule
            and len(parameters) == len(self._parameters)
            and all(map(is_, parameters, self._parameters))
            and all(map(is_, self._in_state(), self._moments))
            and all(map(is_, [s["step"] for s in self._states if "step" in s], self._counters))
            and self._find() == self._addresses
            and all(map(Tensor.is_contiguous, parameters))
        )

    def takes(self, gradients: list[Tensor]) -> bool:
        """Return whether a kernel can read the gradients as they are."""
        return (
            all([g.dtype is torch.float32 for g in gradients])
            and not any([g.is_sparse for g in gradients])
            and all(map(Tensor.is_contiguous, gradients))
            and [g.numel() for g in gradients] == self._sizes
        )

    def count(self) -> list[float]:
        """Count the coming step in the state of each parameter.

        Returns:
            The counts; where none is kept, 1 for a first step and 2 for any other.
        """
        if not self._counters:
            counts = [1.0 if new else 2.0 for new in self._new]
            self._new = [False] * len(self._new)
            return counts
        self._count(self._steps, self._counts)
        counted: list[float] = self._counts.tolist()
        return counted

    def run(self, gradients: list[Tensor]) -> None:
        """Make the step, with `numbers`."""
        self._gradients[:] = list(map(Tensor.data_ptr, gradients))
        self._run(self._table, self.numbers)
        increment_version(self._parameters)


def obstacles(rule: Rule, parameters: list[Tensor], states: list[State]) -> Iterator[str]:
    """Yield what about parameters, gradients or state no kernel can take.

    Args:
        rule: The optimizer.
        parameters: Those that have gradients.
        states: The state of each parameter, empty if it has not begun.
    """
    for parameter, state in zip(parameters, states, strict=True):
        if type(parameter) is not Parameter and type(parameter) is not Tensor:
            yield f"a parameter that is a {type(parameter).__name__}"
        size, gradient = parameter.numel(), parameter.grad
        if not _is_plain(parameter, size) or not parameter.is_contiguous():
            yield f"a parameter that is {_describe(parameter)}"
        if gradient is None or not _is_plain(gradient, size):
            yield f"a gradient that is {_describe(gradient)}"
        if not has_begun(rule, state):
            continue
        for name in rule.states:
            moment = state.get(name)
            if moment is None or not _is_plain(moment, size) or not moment.is_contiguous():
                yield f"a state whose {name} is {_describe(moment)}"
        if "step" in state and not _is_plain(state["step"], 1):
            yield f"a state whose step is {_describe(state['step'])}"


def has_begun(rule: Rule, state: State) -> bool:
    """Return whether a parameter has been trained."""
    return bool(rule.states) and state.get(rule.states[0]) is not None


def _is_plain(tensor: Tensor, size: int) -> bool:
    """Whether it is float32 on the CPU, not sparse, and has a number of entries."""
    return (
        tensor.dtype is torch.float32
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and tensor.numel() == size
    )


def _describe(value: object) -> str:
    """Return what about a tensor kernels may not take."""
    if not isinstance(value, Tensor):
        return repr(value)
    kind = f"{str(value.dtype)[6:]} on {value.device}"
    if value.layout is not torch.strided:
        return f"{kind}, {str(value.layout)[6:]}"
    return kind if value.is_contiguous() else f"{kind}, not contiguous"
