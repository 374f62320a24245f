"""Optimizers' steps over lists of arrays: all tensors of a network in one call.

    Adam      m <- lerp(m, g, 1 - beta1);  v <- beta2 v + (1 - beta2) g^2
              p <- p - step_size m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
    SGD       b <- momentum b + (1 - dampening) g;  p <- p - lr b,  or  lr (g + momentum b)
    RMSprop   v <- alpha v + (1 - alpha) g^2;  p <- p - lr g / (sqrt(v) + eps)

A kernel reads a table of addresses, one row a tensor, and a row of numbers beside each. `Tensors`
makes the table, `adam_numbers` and its like the numbers. A Polyak average of the parameters,
target <- (1 - tau) target + tau p, can ride along.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import isa
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.optimizer_steps import (
    SHRINK,
    SIZE,
    TARGET,
    Rule,
    add_one,
    step_row,
)

COLUMNS = SIZE + 1
"""Columns of a table: addresses of parameter, gradient, three states and target, and the size."""

Row = NDArray[np.float32]


@once
def optimizer_kernel(rule: Rule) -> Any:
    """Return the step of an optimizer.

    Args:
        rule: The optimizer and its options.

    Returns:
        A function of a table, (tensors, COLUMNS) int64 of addresses and sizes, and of numbers,
        (tensors, NUMBERS) float32. Nothing is checked: addresses are of contiguous float32.
    """
    lanes, which = isa.host().lanes, rule.encode()

    @kernel("void(int64[:, ::1], float32[:, ::1])")
    def step(table, numbers):
        for row in range(table.shape[0]):
            step_row(which, lanes, table[row], numbers[row])

    return step


@once
def count_kernel() -> Any:
    """Return the kernel that counts steps.

    Returns:
        A function of addresses of float32 counters, (tensors,) int64, to which it adds one, and of
        a place for the sums, (tensors,) float64.
    """

    @kernel("void(int64[::1], float64[::1])")
    def count(addresses, sums):
        for i in range(addresses.size):
            sums[i] = add_one(addresses[i])

    return count


class Tensors:
    """The table of the tensors that one call of a kernel treats.

    Args:
        rows: For each tensor its parameter, its gradient, its states and, if there is one, its
            target, as contiguous float32 arrays of one size. They are kept alive.

    Attributes:
        table: (tensors, COLUMNS) int64.
    """

    def __init__(self, rows: Sequence[Sequence[NDArray[np.float32]]], rule: Rule) -> None:
        self.rows, self.table = rows, np.zeros((len(rows), COLUMNS), np.int64)
        for line, arrays in zip(self.table, rows, strict=True):
            size = arrays[0].size
            for array in arrays:
                if array.dtype != np.float32 or not array.flags.c_contiguous or array.size != size:
                    raise ValueError(
                        f"arrays must be {size} contiguous float32, got {array.dtype} {array.shape}"
                    )
            states = 2 + len(rule.states)
            if len(arrays) != states + rule.polyak:
                raise ValueError(f"{rule} takes {states + rule.polyak} arrays, got {len(arrays)}")
            for column, array in enumerate(arrays[:states]):
                line[column] = array.ctypes.data
            if rule.polyak:
                line[TARGET] = arrays[states].ctypes.data
            line[SIZE] = size


def _row(step: float, weight_decay: float, maximize: bool, tau: float, *own: float) -> Row:
    """Return SIGN, DECAY, SHRINK (none), STEP, TAU and a rule's own numbers."""
    sign = -1.0 if maximize else 1.0
    return np.array((sign, weight_decay, 1.0, step, tau, *own), np.float32)


def adam_numbers(
    step: float,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    *,
    decoupled: bool = False,
    maximize: bool = False,
    tau: float = 0.0,
) -> Row:
    """Return Adam's row of numbers (Kingma & Ba 2015, Alg. 1; decoupled: Loshchilov & Hutter 2019).

    Args:
        step: Steps of this tensor, this one included: 1 for the first.
        lr: Learning rate.
        betas: Decay rates of the two moments.
        eps: Added to the denominator.
        weight_decay: Added to the gradient as L2 penalty, or applied to the weights themselves.
        decoupled: Whether it is applied to the weights themselves, as in AdamW.
        maximize: Whether to ascend.
        tau: What a Polyak average takes from the parameters.
    """
    first, second = 1.0 - betas[0], 1.0 - betas[1]
    row = _row(
        -lr / (1.0 - betas[0] ** step),
        0.0 if decoupled else weight_decay,
        maximize,
        tau,
        first if first < 0.5 else first - 1.0,
        first < 0.5,
        betas[1],
        second,
        math.sqrt(1.0 - betas[1] ** step),
        eps,
    )
    if decoupled:
        row[SHRINK] = 1.0 - lr * weight_decay
    return row


def sgd_numbers(
    first: bool,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    *,
    maximize: bool = False,
    tau: float = 0.0,
) -> Row:
    """Return the row of numbers of stochastic gradient descent.

    Args:
        first: Whether the momentum buffer is new: it then becomes the gradient, undampened.
        lr: Learning rate.
        momentum: Decay rate of the buffer.
        dampening: What is left out of gradients that enter the buffer.
        weight_decay: Weight of the L2 penalty.
        maximize: Whether to ascend.
        tau: What a Polyak average takes from the parameters.
    """
    gain, keep = (1.0, 0.0) if first else (1.0 - dampening, momentum)
    return _row(-lr, weight_decay, maximize, tau, momentum, gain, keep, 0.0, 0.0, 0.0)


def rmsprop_numbers(
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    *,
    maximize: bool = False,
    tau: float = 0.0,
) -> Row:
    """Return RMSprop's row of numbers (Tieleman & Hinton 2012; centred: Graves 2013, eq. 38-41).

    Args:
        lr: Learning rate.
        alpha: Decay rate of the moments.
        eps: Added to the root, or below it.
        weight_decay: Weight of the L2 penalty.
        momentum: Decay rate of the momentum buffer.
        maximize: Whether to ascend.
        tau: What a Polyak average takes from the parameters.
    """
    gain = 1.0 - alpha
    near = gain < 0.5
    lerp = gain if near else gain - 1.0
    return _row(-lr, weight_decay, maximize, tau, alpha, gain, lerp, near, eps, momentum)
