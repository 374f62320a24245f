"""Minibatches of a rollout, brought from rows into the layout of the kernels."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer

from dstrl.compiled.batches import column_of, rows_of
from sparse_core.kernels.jit import kernel, once
from sparse_core.step.shape import Array

_NAMES = "observations", "actions", "values", "log_probs", "advantages", "returns"

VALUES, LOG_PROBS, ADVANTAGES, RETURNS = range(4)
"""Rows of the single numbers of a minibatch."""


class Minibatches(NamedTuple):
    """Samples to learn from, and their order.

    Attributes:
        observations: `(samples, features)`.
        actions: `(samples, numbers)`.
        values: `(samples,)`, like those that follow.
        log_probs: Of the actions, when they were drawn.
        advantages: Of the actions.
        returns: From there on.
        order: `(taken,)`, which samples are taken, one minibatch after the other.
    """

    observations: Array
    actions: Array
    values: Array
    log_probs: Array
    advantages: Array
    returns: Array
    order: NDArray[np.int64]


class Rollout:
    """All samples of a plain rollout buffer, in the order in which its `get` would give them.

    Args:
        buffer: Stable-Baselines3's own, on the CPU.

    Attributes:
        count: How many there are.
    """

    def __init__(self, buffer: Any) -> None:
        self._buffer, self.count = buffer, buffer.buffer_size * buffer.n_envs
        self._order = np.random.permutation(self.count)
        own = vars(buffer)
        if not buffer.generator_ready:
            for name in _NAMES:
                own[name] = buffer.swap_and_flatten(own[name])
            buffer.generator_ready = True

    @functools.cached_property
    def samples(self) -> Minibatches:
        """The samples, in the order of the buffer."""
        rows, taken, *numbers = (getattr(self._buffer, name) for name in _NAMES)
        first, second, third, fourth = (array.reshape(-1) for array in numbers)
        return Minibatches(_rows(rows), _rows(taken), first, second, third, fourth, self._order)

    def minibatch(self, start: int, size: int) -> Any:
        """Return a minibatch as the buffer would."""
        return self._buffer._get_samples(self._order[start : start + size])


class Single:
    """The samples of one minibatch that a buffer of another kind has given.

    Args:
        data: The minibatch.

    Attributes:
        count: How many there are.
    """

    def __init__(self, data: Any) -> None:
        self._data, self.count = data, len(data.actions)

    @functools.cached_property
    def samples(self) -> Minibatches:
        """The samples."""
        data = self._data
        return Minibatches(
            rows_of(data.observations),
            rows_of(data.actions),
            column_of(data.old_values),
            column_of(data.old_log_prob),
            column_of(data.advantages),
            column_of(data.returns),
            np.arange(self.count),
        )

    def minibatch(self, start: int, size: int) -> Any:
        """Return the minibatch."""
        return self._data


def passes_of(buffer: Any, size: int) -> Iterator[Rollout | Single]:
    """Yield what an epoch learns from: all of a plain buffer, or one minibatch after the other."""
    if type(buffer) is RolloutBuffer and buffer.device.type == "cpu":
        yield Rollout(buffer)
        return
    for data in buffer.get(size):
        yield Single(data)


def _rows(array: NDArray[Any]) -> Array:
    return np.ascontiguousarray(array.reshape(len(array), -1), np.float32)


@once
def minibatch_kernel(tile: int) -> Any:
    """Return the kernel that takes the next minibatch.

    Args:
        tile: Samples of a tile.

    Returns:
        A function of the arrays of `Minibatches`; of the place in `order` where the minibatch
        begins, (1,) int64, which is moved on; and of where it goes: (tiles, features, tile)
        observations, (batch, numbers) actions, and (4, batch) numbers, see `VALUES`.
    """
    places = VALUES, LOG_PROBS, ADVANTAGES, RETURNS
    first, second, third, fourth = places

    @kernel(
        "void(float32[:, ::1], float32[:, ::1], float32[::1], float32[::1], float32[::1], "
        "float32[::1], int64[::1], int64[::1], float32[:, :, ::1], float32[:, ::1], "
        "float32[:, ::1])"
    )
    def take(
        observations, actions, values, log_probs, advantages, returns, order, place, seen, taken,
        numbers,
    ):  # fmt: skip
        start = place[0]
        place[0] += taken.shape[0]
        for i in range(taken.shape[0]):
            row, t, s = order[start + i], i // tile, i % tile
            for j in range(seen.shape[1]):
                seen[t, j, s] = observations[row, j]
            for j in range(taken.shape[1]):
                taken[i, j] = actions[row, j]
            numbers[first, i], numbers[second, i] = values[row], log_probs[row]
            numbers[third, i], numbers[fourth, i] = advantages[row], returns[row]

    return take
