"""Which backend a layer gets with `backend="auto"`: the condensed one, where that pays.

A forward and a backward pass of a masked `(rows, cols)` layer on one thread cost, in nanoseconds,

    masked      50 000 + batch * (0.075 rows cols      + 1.6 (rows + cols)) + 0.5 rows cols
    condensed  170 000 + batch * (w(group) rows cols d + 1.6 (rows + cols))

with density d: a call of a condensed layer costs 120 microseconds more, and it has to save as much.
This is a fit to forward and backward passes measured in turns (AVX2, MKL, float32; 11 shapes from
17x256 to 3072x768, batches of 32 and 256, sparsities from 50 to 99 %), which it reproduces within
16 % (standard deviation of the ratio). Another machine is faster or slower, but the ratios, which
decide, depend on it little. The crossovers that follow, for group 1:

    density              0.5     0.2     0.1     0.05
    batch 256, square    never*  101     87      82      neurons
    batch 32, square     never*  249     209     194     neurons

(* but for the masking itself: from 490 neurons on.) With float64 the condensed layer runs on plain
NumPy and never pays. `benchmarks/choice.py` measures the rule against both backends.

Optimizer steps are left out. They favour the condensed layer, whose moments are as few as its
weights, so the rule errs on the masked side where it errs.
"""

from __future__ import annotations

TYPICAL_BATCH = 256
"""Samples of a training batch where none is named."""

CALL_NS = 120_000
"""What a forward and a backward call of a condensed layer cost more."""

DENSE_NS = 0.075
"""What one weight of a masked layer costs for each sample."""

MASKING_NS = 0.5
"""What one weight of a masked layer costs for each batch: two products with the mask."""

CONDENSED_NS = {1: 0.15, 2: 0.09, 4: 0.06, 8: 0.06}
"""What one active weight of a condensed layer costs for each sample, by group."""


def condensed_pays(
    rows: int, cols: int, density: float, group: int = 1, batch: int = TYPICAL_BATCH
) -> bool:
    """Whether a condensed layer trains at least as fast as a masked one, by the rule above.

    Args:
        rows: Neurons.
        cols: Dense fan-in.
        density: Fraction of the weights that is active, in [0, 1]; the largest that there will be.
        group: Consecutive neurons that share their columns.
        batch: Samples of a training batch.
    """
    saved = DENSE_NS - CONDENSED_NS[group] * density
    return rows * cols * (MASKING_NS + batch * saved) >= CALL_NS
