"""Batches of transitions, brought from rows into the layout of the kernels."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer

from sparse_core.kernels.jit import kernel, once
from sparse_core.step.shape import Array, Shape


class Batches:
    """Draws batches of transitions from an algorithm's replay buffer, as its own `sample` does.

    From a plain buffer, which most are, samples are taken straight into tiles.

    Args:
        model: The algorithm.
        shape: Of a batch.
    """

    def __init__(self, model: Any, shape: Shape) -> None:
        self.model, self.shape = model, shape
        self.lay = lay_kernel(shape.tile)

    def draw(self, now: Array, then: Array) -> tuple[NDArray[Any], Array, Array]:
        """Draw a batch.

        Args:
            now: `(trained, features, tile)`, where observations go.
            then: The same, where the next observations go.

        Returns:
            `(batch, actions)` actions, `(batch,)` rewards, and `(batch,)` discounts, which are
            zero where an episode ended.
        """
        model, buffer = self.model, self.model.replay_buffer
        normalise = model._vec_normalize_env
        plain = type(buffer) is ReplayBuffer and not buffer.optimize_memory_usage
        if plain and normalise is None and buffer.observations.dtype in _GATHERED:
            return self._gather(buffer, now, then)
        data = buffer.sample(self.shape.batch, env=normalise)
        self.lay(rows_of(data.observations), now, 0, 0)
        self.lay(rows_of(data.next_observations), then, 0, 0)
        discounts = model.gamma if data.discounts is None else column_of(data.discounts)
        return data.actions.numpy(), column_of(data.rewards), _remaining(data.dones, discounts)

    def _gather(
        self, buffer: ReplayBuffer, now: Array, then: Array
    ) -> tuple[NDArray[Any], Array, Array]:
        batch, count = self.shape.batch, buffer.buffer_size * buffer.n_envs
        steps = np.random.randint(0, buffer.buffer_size if buffer.full else buffer.pos, size=batch)
        envs = np.random.randint(0, high=buffer.n_envs, size=(batch,))
        rows = steps * buffer.n_envs + envs
        gather = gather_kernel(self.shape.tile, buffer.observations.dtype.name)
        gather(buffer.observations.reshape(count, -1), rows, now)
        gather(buffer.next_observations.reshape(count, -1), rows, then)
        over = buffer.dones.reshape(-1)[rows] * (1 - buffer.timeouts.reshape(-1)[rows])
        rewards = buffer.rewards.reshape(-1)[rows].astype(np.float32, copy=False)
        actions = buffer.actions.reshape(count, -1)[rows]
        return actions, rewards, _remaining(over, self.model.gamma)


def minibatches(buffer: Any, size: int) -> Iterator[Any]:
    """Yield the minibatches of an epoch, as `buffer.get(size)` does.

    Stable-Baselines3's own buffer on the CPU copies each array twice, of which one copy is left
    out.
    """
    if type(buffer) is not RolloutBuffer or buffer.device.type != "cpu":
        yield from buffer.get(size)
        return
    own = vars(buffer)
    own["to_torch"] = torch.from_numpy
    try:
        yield from buffer.get(size)
    finally:
        del own["to_torch"]


def mean_of(numbers: NDArray[Any]) -> float:
    """Return the mean; of few numbers NumPy's own costs three times as much."""
    return float(np.add.reduce(numbers)) / numbers.size


_GATHERED = ("float32", "float64")


def _remaining(over: Any, discounts: Any) -> Array:
    remaining: Array = 1 - np.asarray(over, np.float32).reshape(-1)
    remaining *= discounts
    return remaining


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


def rows_of(tensor: Any) -> Array:
    """Return a batch of torch as `(batch, features)` float32."""
    array: NDArray[Any] = tensor.numpy()
    rows = array.reshape(len(array), -1)
    return np.ascontiguousarray(rows, np.float32)


def column_of(tensor: Any) -> Array:
    """Return a batch of single numbers as `(batch,)` float32."""
    return rows_of(tensor).reshape(-1)
