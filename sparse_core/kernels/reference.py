"""What every kernel computes, written down plainly in NumPy.

Tests compare the kernels with these functions; layers use them for float64, where gradients are
checked numerically. Activations are ordinary (batch, features) arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.format import Pattern


def _groups(pattern: Pattern) -> Iterator[tuple[NDArray[Any], range, slice, int]]:
    """Yield columns, rows, slots and number of rows of each stored group."""
    for i in range(pattern.groups):
        slots = slice(int(pattern.indptr[i]), int(pattern.indptr[i + 1]))
        row = int(pattern.rows[i]) * pattern.group
        rows = range(row, min(row + pattern.group, pattern.out_features))
        yield pattern.columns[slots].astype(np.int64), rows, slots, len(rows)


def _weights(pattern: Pattern, values: NDArray[Any]) -> NDArray[Any]:
    """Return values as (slots, group)."""
    return values[: pattern.size].reshape(pattern.slots, pattern.group)


def forward(
    pattern: Pattern,
    values: NDArray[Any],
    x: NDArray[Any],
    bias: NDArray[Any] | None = None,
    relu: bool = False,
) -> NDArray[Any]:
    """Return x W^T + b, and max(., 0) of it if `relu`.

    Args:
        pattern: The active weights.
        values: (capacity,) their values.
        x: (batch, in) input.
        bias: (out,) or None.
        relu: Whether to apply max(., 0).

    Returns:
        (batch, out) output. Rows without weights give their bias.
    """
    y = np.zeros((x.shape[0], pattern.out_features), x.dtype)
    if bias is not None:
        y += bias
    weights = _weights(pattern, values)
    for columns, rows, slots, count in _groups(pattern):
        y[:, rows] += x[:, columns] @ weights[slots, :count]
    return np.where(y <= 0, y.dtype.type(0), y) if relu else y


def grad_input(pattern: Pattern, values: NDArray[Any], dy: NDArray[Any]) -> NDArray[Any]:
    """Return dy W: (batch, in), from dy (batch, out)."""
    dx = np.zeros((dy.shape[0], pattern.in_features), dy.dtype)
    weights = _weights(pattern, values)
    for columns, rows, slots, count in _groups(pattern):
        dx[:, columns] += dy[:, rows] @ weights[slots, :count].T
    return dx


def grad_values(
    pattern: Pattern, x: NDArray[Any], dy: NDArray[Any], capacity: int | None = None
) -> NDArray[Any]:
    """Return dy^T x at active weights.

    Args:
        pattern: The active weights.
        x: (batch, in) input.
        dy: (batch, out) gradient of the output.
        capacity: Length of the result; `pattern.size` by default.

    Returns:
        (capacity,) gradient of the values, zeros where unused.
    """
    dvalues = np.zeros(pattern.size if capacity is None else capacity, x.dtype)
    weights = _weights(pattern, dvalues)
    for columns, rows, slots, count in _groups(pattern):
        weights[slots, :count] = x[:, columns].T @ dy[:, rows]
    return dvalues


def grad_bias(dy: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of dy (batch, out) over samples: (out,)."""
    return np.asarray(dy.sum(0))


def pack(x: NDArray[Any], tile: int) -> NDArray[Any]:
    """Return (batch, features) as (tiles, features, tile), padded with zeros."""
    batch, features = x.shape
    tiles = -(-batch // tile)
    padded = np.zeros((tiles * tile, features), x.dtype)
    padded[:batch] = x
    return np.ascontiguousarray(padded.reshape(tiles, tile, features).transpose(0, 2, 1))


def unpack(blocked: NDArray[Any], batch: int) -> NDArray[Any]:
    """Return (tiles, features, tile) as (batch, features)."""
    tiles, features, tile = blocked.shape
    rows = blocked.transpose(0, 2, 1).reshape(tiles * tile, features)
    return np.ascontiguousarray(rows[:batch])


def relu(x: NDArray[Any]) -> NDArray[Any]:
    """Return max(x, 0), NaN where x is NaN."""
    return np.where(x <= 0, x.dtype.type(0), x)


def relu_backward(dy: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Return the gradient of the input of `relu` from that of its output and the output."""
    return np.where(y <= 0, dy.dtype.type(0), dy)


def tanh(x: NDArray[Any]) -> NDArray[Any]:
    """Return tanh x."""
    return np.asarray(np.tanh(x))


def tanh_backward(dy: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Return the gradient of the input of `tanh` from that of its output and the output."""
    return np.asarray(dy * (1 - y * y))


def top_rows(
    x: NDArray[Any], dy: NDArray[Any], k: int, exclude: Pattern | None = None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the k largest |dy^T x| of each row, and their columns.

    Args:
        x: (batch, in) input.
        dy: (batch, out) gradient of the output.
        k: Entries a row, at most `in`.
        exclude: Weights that are not candidates.

    Returns:
        Columns (out, k) int64 and scores (out, k), scores descending, equal scores by column.
        Where a row has too few candidates the column is -1 and the score -1.
    """
    scores = np.abs(dy.T @ x)
    if exclude is not None:
        scores[exclude.to_mask()] = -1
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    return np.where(best < 0, -1, order), best


def top_layer(
    x: NDArray[Any], dy: NDArray[Any], n: int, exclude: Pattern | None = None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the n largest |dy^T x| of a layer, and their places row * in + column.

    Args:
        x: (batch, in) input.
        dy: (batch, out) gradient of the output.
        n: Number of entries.
        exclude: Weights that are not candidates.

    Returns:
        Places (n or fewer,) int64 and scores, scores descending, equal scores by place.
    """
    scores = np.abs(dy.T @ x)
    candidates = np.ones(scores.shape, np.bool_)
    if exclude is not None:
        candidates &= ~exclude.to_mask()
    places = np.flatnonzero(candidates)
    flat = scores.ravel()[places]
    order = np.argsort(-flat, kind="stable")[:n]
    return places[order], flat[order]
