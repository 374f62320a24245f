"""What a forward and a backward pass of a linear layer cost, masked and condensed.

For one batch size, group and number of threads, with r neurons, c inputs and density d, in ns:

    masked      call + weight r c   + feature (r + c)
    condensed   call + weight r c d + feature (r + c) - joints

A layer that follows another condensed one in a chain saves a part of its call, and what passes
between them is neither unpacked nor packed: `joint_call + joint_feature f` for each joint of f
features. Optimizer steps are left out: they favour the condensed layer, whose moments are as few as
its weights.

`shipped` are the costs of one machine, for a start; `sparse_core.layers.calibration` measures
those of the machine at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Nanoseconds, for one batch size, group and number of threads."""

    masked_call: float
    masked_weight: float
    masked_feature: float
    condensed_call: float
    condensed_weight: float
    condensed_feature: float
    joint_call: float
    joint_feature: float

    def masked(self, rows: int, cols: int) -> float:
        """Return what a masked layer costs."""
        weights, features = rows * cols, rows + cols
        return self.masked_call + self.masked_weight * weights + self.masked_feature * features

    def condensed(self, rows: int, cols: int, density: float, joints: Sequence[int] = ()) -> float:
        """Return what a condensed layer adds to a network.

        Args:
            rows: Neurons.
            cols: Dense fan-in.
            density: Fraction of the weights that is active.
            joints: Features of each joint with a condensed neighbour in its chain.
        """
        alone = self.condensed_call + self.condensed_feature * (rows + cols)
        saved = sum(self.joint_call + self.joint_feature * features for features in joints)
        return max(0.0, alone + self.condensed_weight * rows * cols * density - saved)

    def advantage(self, rows: int, cols: int, density: float, joints: Sequence[int] = ()) -> float:
        """Return how many times longer the masked layer takes; at least 1 where condensing pays."""
        condensed = self.condensed(rows, cols, density, joints)
        return self.masked(rows, cols) / condensed if condensed > 0 else float("inf")


_CONDENSED_CALL = {1: 125_000, 2: 108_000, 4: 108_000, 8: 118_000, 16: 118_000, 32: 118_000}
_CONDENSED_WEIGHT = {1: 0.092, 2: 0.07, 4: 0.06, 8: 0.064, 16: 0.064, 32: 0.064}


def shipped(batch: int, group: int) -> Costs:
    """Return the costs of one core of an AMD EPYC (Zen 4, AVX-512, MKL), fitted to measured ones.

    Args:
        batch: Samples of a training batch.
        group: Consecutive neurons that share their columns.
    """
    return Costs(
        masked_call=86_000,
        masked_weight=1.0 + 0.0575 * batch,
        masked_feature=0.9 * batch,
        condensed_call=_CONDENSED_CALL[group],
        condensed_weight=_CONDENSED_WEIGHT[group] * batch,
        condensed_feature=0.33 * batch,
        joint_call=30_000,
        joint_feature=2.5 * batch,
    )
