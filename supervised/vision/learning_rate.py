"""The learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence


def learning_rate(
    step: int,
    steps: int,
    lr: float,
    *,
    schedule: str = "cosine",
    warmup: int = 0,
    at: Sequence[float] = (),
    every: int = 1,
    factor: float = 0.1,
) -> float:
    """Return the learning rate of a step.

    Args:
        step: Counted from 0.
        steps: Of the training.
        lr: After the warm-up.
        schedule: `cosine`: half a cosine from the end of the warm-up to zero at the end (Loshchilov
            and Hutter 2017, without restarts); `steps`: times `factor` at each fraction of `at`;
            `stairs`: times `factor` after each `every` steps; `constant`.
        warmup: Steps in which it rises, to `lr` in the last one (Goyal et al. 2017).
        at: Fractions of the training.
        every: Steps.
        factor: Of `steps` and `stairs`.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    if schedule == "cosine":
        done = (step - warmup) / max(1, steps - warmup)
        return lr * (1 + math.cos(math.pi * done)) / 2
    if schedule == "steps":
        return lr * factor ** sum(step >= fraction * steps for fraction in at)
    if schedule == "stairs":
        return lr * factor ** (step // max(1, every))
    return lr
