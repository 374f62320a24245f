"""Batches of transitions, brought from rows into the layout of the kernels."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from operator import is_
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer

from sparse_core.kernels.jit import kernel, once
from sparse_core.step.shape import Array, Shape, zeros
from sparse_core.step.tape import Tape


class Batches:
    """Draws batches of transitions from an algorithm's replay buffer, as its own `sample` does.

    From a plain buffer, which most are, samples are taken straight into tiles.

    Args:
        model: The algorithm.
        shape: Of a batch.
        now: `(trained, features, tile)`, where observations go.
        then: The same, where the next observations go.
        width: Numbers in an action.

    Attributes:
        actions: `(batch, width)`.
        rewards: `(batch,)`.
        remaining: `(batch,)` discounts, which are zero where an episode ended.
    """

    def __init__(self, model: Any, shape: Shape, now: Array, then: Array, width: int) -> None:
        self.model, self.shape = model, shape
        self._now, self._then, self._lay = now, then, lay_kernel(shape.tile)
        self.actions = zeros(shape.batch, width)
        self.rewards, self.remaining = zeros(shape.batch), zeros(shape.batch)
        self._rows: NDArray[np.int64] = np.zeros(shape.batch, np.int64)
        self._discount = zeros(1)
        self._tape, self._sources = Tape(), ()

    def draw(self) -> None:
        """Draw a batch."""
        model, buffer = self.model, self.model.replay_buffer
        normalise = model._vec_normalize_env
        plain = type(buffer) is ReplayBuffer and not buffer.optimize_memory_usage
        if plain and normalise is None and buffer.observations.dtype in _GATHERED:
            self._gather(buffer)
            return
        data = buffer.sample(self.shape.batch, env=normalise)
        self._lay(rows_of(data.observations), self._now, 0, 0)
        self._lay(rows_of(data.next_observations), self._then, 0, 0)
        self.actions[:] = rows_of(data.actions)
        self.rewards[:] = column_of(data.rewards)
        self.remaining[:] = 1 - column_of(data.dones)
        self.remaining *= model.gamma if data.discounts is None else column_of(data.discounts)

    def _gather(self, buffer: ReplayBuffer) -> None:
        batch, envs = self.shape.batch, buffer.n_envs
        last = buffer.buffer_size if buffer.full else buffer.pos
        np.multiply(np.random.randint(0, last, size=batch), envs, out=self._rows)
        self._rows += np.random.randint(0, high=envs, size=(batch,))
        self._discount[0] = self.model.gamma
        own = vars(buffer)
        sources = tuple([own[name] for name in _SOURCES])
        if len(self._sources) != len(sources) or not all(map(is_, sources, self._sources)):
            self._sources, self._tape = sources, self._tape_of(*sources)
        self._tape.run()

    def _tape_of(self, *sources: NDArray[Any]) -> Tape:
        """Return what takes the chosen rows of a buffer's arrays."""
        tape, rows, tile = Tape(), self._rows, self.shape.tile
        now, then, actions, *outcomes = sources
        for source, target in ((now, self._now), (then, self._then)):
            tape.call(gather_kernel(tile, source.dtype.name), _flat(source), rows, target)
        tape.call(rows_kernel(actions.dtype.name), _flat(actions), rows, self.actions)
        flat = [array.reshape(-1) for array in outcomes]
        tape.call(outcome_kernel(), *flat, rows, self._discount, self.rewards, self.remaining)
        return tape


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a buffer, (steps, environments, ...), as rows."""
    return array.reshape(array.shape[0] * array.shape[1], -1)


_GATHERED = ("float32", "float64")
_SOURCES = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@once
def lay_kernel(tile: int) -> Any:
    """Return the kernel that brings rows into tiles.

    Args:
        tile: Samples of a tile.

    Returns:
        A function of rows `(batch, features)`, of tiles `(tiles, more features, tile)`, and of the
        tile and the feature there where the first sample and the first feature go.
    """

    @kernel("void(float32[:, ::1], float32[:, :, ::1], int64, int64)")
    def lay(rows, tiles, first_tile, first_feature):
        batch, features = rows.shape
        for t in range((batch + tile - 1) // tile):
            start = t * tile
            count = min(tile, batch - start)
            for j in range(features):
                for s in range(count):
                    tiles[first_tile + t, first_feature + j, s] = rows[start + s, j]

    return lay


@once
def gather_kernel(tile: int, dtype: str) -> Any:
    """Return the kernel that brings chosen rows into tiles.

    Args:
        tile: Samples of a tile.
        dtype: Of the rows: `float32` or `float64`.

    Returns:
        A function of rows `(any, features)`, of the `(batch,) int64` chosen ones, and of tiles
        `(tiles, features, tile)`.
    """

    @kernel(f"void({dtype}[:, ::1], int64[::1], float32[:, :, ::1])")
    def gather(rows, chosen, tiles):
        features = rows.shape[1]
        for i in range(chosen.size):
            t, s, row = i // tile, i % tile, chosen[i]
            for j in range(features):
                tiles[t, j, s] = np.float32(rows[row, j])

    return gather


@once
def rows_kernel(dtype: str) -> Any:
    """Return the kernel that takes rows, of (rows, chosen, out); `dtype` is that of the rows."""

    @kernel(f"void({dtype}[:, ::1], int64[::1], float32[:, ::1])")
    def take_rows(rows, chosen, out):
        for i in range(chosen.size):
            for j in range(out.shape[1]):
                out[i, j] = np.float32(rows[chosen[i], j])

    return take_rows


@once
def outcome_kernel() -> Any:
    """Return the kernel of what followed on transitions.

    Returns:
        A function of flat arrays of all rewards, ends of episodes and ends by a time limit; of the
        chosen places, of the discount, (1,), and of `(batch,)` rewards and discounts to write.
    """

    @kernel(
        "void(float32[::1], float32[::1], float32[::1], int64[::1], float32[::1], float32[::1], "
        "float32[::1])"
    )
    def outcomes(all_rewards, dones, timeouts, chosen, discount, rewards, remaining):
        one = np.float32(1)
        for i in range(chosen.size):
            place = chosen[i]
            rewards[i] = all_rewards[place]
            over = dones[place] * (one - timeouts[place])
            remaining[i] = (one - over) * discount[0]

    return outcomes


def rows_of(tensor: Any) -> Array:
    """Return a batch of torch as `(batch, features)` float32."""
    array: NDArray[Any] = tensor.numpy()
    rows = array.reshape(len(array), -1)
    return np.ascontiguousarray(rows, np.float32)


def column_of(tensor: Any) -> Array:
    """Return a batch of single numbers as `(batch,)` float32."""
    return rows_of(tensor).reshape(-1)
