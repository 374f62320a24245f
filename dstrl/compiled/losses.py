"""The losses of critics and actors as kernels, and the signals that chains are given for them.

Values of a critic lie in `(tiles, 1, tile)`, single numbers of samples in `(batch,)`. Sums are
added in double precision. What is logged goes to a place of a `(names,)` float64 array.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np

from sparse_core.kernels.jit import kernel, once


@once
def least_kernel() -> Any:
    """Return the kernel of the least of several values, which is called for one after the other.

    Returns:
        A function of values, of their index from zero, of the least so far, and of whose it is.
    """

    @kernel("void(float32[:, :, ::1], int64, float32[::1], int64[::1])")
    def least(values, index, lowest, chosen):
        flat = values.reshape(-1)
        for i in range(lowest.size):
            if index == 0 or flat[i] < lowest[i]:
                lowest[i] = flat[i]
                chosen[i] = index

    return least


@once
def vote_kernel() -> Any:
    """Return the kernel of the gradient of minus the mean of the least values by one of them.

    Returns:
        A function of whose the least is, of an index, and of the signal to write.
    """

    @kernel("void(int64[::1], int64, float32[:, :, ::1])")
    def vote(chosen, index, signal):
        flat, part = signal.reshape(-1), np.float32(-1 / chosen.size)
        for i in range(chosen.size):
            flat[i] = part if chosen[i] == index else np.float32(0)

    return vote


@once
def wanted_kernel() -> Any:
    """Return the kernel of what critics should say: rewards + discounts (values - weight log pi).

    Returns:
        A function of rewards, discounts, values of what follows, the log probabilities of the
        actions there, the weight of those, (1,) float64, and of where the result goes. Without
        log probabilities they are empty.
    """

    @kernel(
        "void(float32[::1], float32[::1], float32[::1], float32[::1], float64[::1], float32[::1])"
    )
    def wanted(rewards, remaining, following, log_prob, weight, out):
        factor = np.float32(weight[0])
        for i in range(out.size):
            value = following[i]
            if log_prob.size:
                value -= factor * log_prob[i]
            out[i] = rewards[i] + remaining[i] * value

    return wanted


@once
def squares_kernel() -> Any:
    """Return the kernel of a critic's weighted mean squared error.

    Returns:
        A function of values, what they should be, the weight, the signal to write, logged numbers,
        and the place of one to which the loss is added.
    """

    @kernel(
        "void(float32[:, :, ::1], float32[::1], float64, float32[:, :, ::1], float64[::1], int64)"
    )
    def squares(values, wanted, weight, signal, logged, place):
        flat, gradient, total = values.reshape(-1), signal.reshape(-1), 0.0
        factor = np.float32(2 * weight / wanted.size)
        for i in range(wanted.size):
            error = flat[i] - wanted[i]
            total += np.float64(error) * error
            gradient[i] = error * factor
        logged[place] += weight * total / wanted.size

    return squares


@once
def entropy_kernel() -> Any:
    """Return the kernel of the loss of SAC's entropy coefficient, by its logarithm.

    Returns:
        A function of log probabilities, the entropy that is wanted, the logarithm of the
        coefficient, its gradient, the coefficient, (1,) float64, logged numbers, and the place of
        the loss.
    """

    @kernel(
        "void(float32[::1], float64, float32[::1], float32[::1], float64[::1], float64[::1], int64)"
    )
    def entropy(log_prob, target, logarithm, gradient, coefficient, logged, place):
        total = 0.0
        for i in range(log_prob.size):
            total += log_prob[i] + np.float32(target)
        mean = -total / log_prob.size
        gradient[0] = mean
        coefficient[0] = np.float32(np.exp(np.float64(logarithm[0])))
        logged[place] = logarithm[0] * mean

    return entropy


@once
def actor_kernel() -> Any:
    """Return the kernel of an actor's loss: mean of weight log pi - value.

    Returns:
        A function of values, log probabilities or nothing, their weight, (1,) float64, logged
        numbers, and the place of the loss.
    """

    @kernel("void(float32[::1], float32[::1], float64[::1], float64[::1], int64)")
    def actor(values, log_prob, weight, logged, place):
        factor, total = np.float32(weight[0]), 0.0
        for i in range(values.size):
            loss = -values[i]
            if log_prob.size:
                loss += factor * log_prob[i]
            total += loss
        logged[place] = total / values.size

    return actor


@once
def huber_kernel() -> Any:
    """Return the kernel of DQN's loss, smooth at zero, by the values of the actions taken.

    Returns:
        A function of values of all actions and of those of the target for what follows, both
        (tiles, actions, tile); of actions taken, (batch, 1), rewards and discounts, of the signal
        to write, and of the loss, (1,) float64.
    """

    @kernel(
        "void(float32[:, :, ::1], float32[:, :, ::1], float32[:, ::1], float32[::1], "
        "float32[::1], float32[:, :, ::1], float64[::1])"
    )
    def huber(values, following, taken, rewards, remaining, signal, logged):
        batch, tile, total = rewards.size, values.shape[2], 0.0
        for i in range(batch):
            t, s, action = i // tile, i % tile, int(taken[i, 0])
            best = following[t, 0, s]
            for j in range(following.shape[1]):
                best = max(best, following[t, j, s])
                signal[t, j, s] = 0
            error = values[t, action, s] - (rewards[i] + remaining[i] * best)
            size = abs(error)
            total += 0.5 * error * error if size < 1 else size - 0.5
            clipped = min(max(error, np.float32(-1)), np.float32(1))
            signal[t, action, s] = clipped / np.float32(batch)
        logged[0] = total / batch

    return huber
