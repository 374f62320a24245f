"""PPO's loss (Schulman et al. 2017, eq. 9) and its gradients, as a kernel."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dstrl.compiled.rollouts import ADVANTAGES, LOG_PROBS, RETURNS, VALUES
from sparse_core.kernels.jit import kernel, once
from sparse_core.step.tape import STOP

OPTIONS = "ratio", "value", "entropy", "weight", "normalise", "divergence"
"""What the loss depends on: how far ratios and values may move (NaN: as far as they like), the
weights of the entropies' and of the values' loss, whether advantages are normalised, and the
divergence beyond which training stops."""

LOGGED = (
    "entropy_loss",
    "policy_gradient_loss",
    "value_loss",
    "approx_kl",
    "clip_fraction",
    "loss",
)
"""What is logged of a minibatch."""


@once
def surrogate_kernel() -> Any:
    """Return the kernel of PPO's loss.

    Returns:
        A function of log probabilities and entropies, (batch,); of values, (tiles, 1, tile); of
        the single numbers of a minibatch, (4, batch), whose advantages are overwritten; of
        `OPTIONS`, float64; of where the gradients go: by log probabilities, by each entropy, (1,),
        and by values; of logged numbers, (rows, `LOGGED`) float64, and the row to write, (1,)
        int64, which is moved on; and of a tape's `control`.
    """
    value, old, advantage, wanted = VALUES, LOG_PROBS, ADVANTAGES, RETURNS
    stop = STOP

    @kernel(
        "void(float32[::1], float32[::1], float32[:, :, ::1], float32[:, ::1], float64[::1], "
        "float32[::1], float32[::1], float32[:, :, ::1], float64[:, ::1], int64[::1], int64[::1])"
    )
    def surrogate(
        log_prob, entropy, values, numbers, options, of_log_prob, of_entropy, of_values, logged,
        row, control,
    ):  # fmt: skip
        batch, one = log_prob.size, np.float32(1)
        advantages = numbers[advantage]
        if options[4] and batch > 1:
            mean, squares = 0.0, 0.0
            for i in range(batch):
                mean += advantages[i]
            mean /= batch
            for i in range(batch):
                squares += (advantages[i] - mean) ** 2
            spread = np.float32(math.sqrt(squares / (batch - 1)) + 1e-8)
            for i in range(batch):
                advantages[i] = (advantages[i] - np.float32(mean)) / spread
        clip = np.float32(options[0])
        low, high = np.float32(1 - options[0]), np.float32(1 + options[0])
        gain, divergence, clipped = 0.0, 0.0, 0
        share = np.float32(-1 / batch)
        for i in range(batch):
            away = log_prob[i] - numbers[old, i]
            ratio = np.float32(math.exp(np.float64(away)))
            free = advantages[i] * ratio
            held = advantages[i] * min(max(ratio, low), high)
            gain += min(free, held)
            clipped += abs(ratio - one) > clip
            divergence += (ratio - one) - away
            counts = one if free < held else np.float32(0)
            if free == held:
                counts = one if low <= ratio <= high else np.float32(0.5)
            of_log_prob[i] = share * counts * advantages[i] * ratio
        flat, signal = values.reshape(-1), of_values.reshape(-1)
        loss, entropies = 0.0, 0.0
        limit, bound = not math.isnan(options[1]), np.float32(options[1])
        part, weight = np.float32(2 / batch), np.float32(options[3])
        for i in range(batch):
            entropies += entropy[i]
            found, inside = flat[i], True
            if limit:
                moved = flat[i] - numbers[value, i]
                inside = abs(moved) <= bound
                found = numbers[value, i] + min(max(moved, -bound), bound)
            error = found - numbers[wanted, i]
            loss += np.float64(error) * error
            signal[i] = weight * (part * error) if inside else np.float32(0)
        of_entropy[0] = -options[2] / batch
        line = logged[row[0]]
        row[0] += 1
        line[0], line[1], line[2] = -entropies / batch, -gain / batch, loss / batch
        line[3], line[4] = divergence / batch, clipped / batch
        line[5] = line[1] + options[2] * line[0] + options[3] * line[2]
        if line[3] > 1.5 * options[5]:
            control[stop] = 1

    return surrogate
