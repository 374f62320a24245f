"""When the topology is updated, and what fraction of it moves.

cosine            alpha / 2 * (1 + cos(pi t / T))                       (RigL, Evci et al. 2020,
eq. 1) linear            alpha * (1 - t / T) inverse_power     alpha * (1 - t / T)^3
(Zhu and Gupta 2017, as decay) constant          alpha

t counts optimizer steps, T = stop_at * horizon. Updates fall on t = update_every, 2 update_every,
... < T. Without a horizon the fraction is alpha and updates go on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparse_core.config import SparseConfig


@dataclass(frozen=True)
class Schedule:
    """Pure functions of the number of optimizer steps done."""

    update_every: int
    drop_fraction: float
    decay: str
    stop_at: float

    @classmethod
    def of(cls, config: SparseConfig) -> Schedule:
        """Read the schedule's fields from a configuration."""
        return cls(config.update_every, config.drop_fraction, config.decay, config.stop_at)

    def due(self, step: int, horizon: int | None) -> bool:
        """Whether the topology is updated after optimizer step number `step` (from 1)."""
        if step < 1 or step % self.update_every:
            return False
        return horizon is None or step < self.stop_at * horizon

    def fraction(self, step: int, horizon: int | None) -> float:
        """Return the fraction of active weights that the update at `step` moves."""
        if horizon is None or self.decay == "constant":
            return self.drop_fraction
        end = self.stop_at * horizon
        progress = min(1.0, step / end) if end else 1.0
        if self.decay == "cosine":
            return self.drop_fraction / 2 * (1 + math.cos(math.pi * progress))
        power = {"linear": 1, "inverse_power": 3}[self.decay]
        return self.drop_fraction * (1 - progress) ** power
