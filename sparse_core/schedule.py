"""When the topology is updated, and what fraction of it moves.

    cosine            alpha / 2 * (1 + cos(pi t / T))             (RigL, Evci et al. 2020, eq. 1)
    linear            alpha * (1 - t / T)
    inverse_power     alpha * (1 - t / T)^3                       (RigL, appendix; k = 3)
    constant          alpha

t counts optimizer steps, T = stop_at * horizon. Updates fall on t = update_every, 2 update_every,
... < T. Without a horizon the fraction is alpha and updates go on. Where the density moves, up or
down, there is one more update, at T; methods that prune have none before t_0.

    active(t) = initial + (final - initial) f(x),    x = (t - t_0) / (T - t_0) in [0, 1]
    t_0 = prune_from * horizon

    cubic         f = 1 - (1 - x)^3                    (Zhu and Gupta 2017)
    linear        f = x
    sigmoid       f = (s(x) - s(0)) / (s(1) - s(0)),   s(x) = 1 / (1 + exp(-6 (2 x - 1)))
                                                       (CHTss, Zhang et al. 2025, eq. 4; k = 6)
    annealed      f = x + sin(pi x) / pi, whose slope falls as a cosine
                                                       (Neuroplastic Expansion, Liu et al. 2025)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sparse_core.config import SparseConfig

FLOOR = 0.005
"""The least fraction that a method which never stops moves (ITOP, Liu et al. 2021)."""


@dataclass(frozen=True)
class Schedule:
    """Pure functions of the number of optimizer steps done."""

    update_every: int
    drop_fraction: float
    decay: str
    stop_at: float
    prune_from: float
    curve: str
    moves_density: bool
    prunes: bool
    stops: bool
    once: bool

    @classmethod
    def of(cls, config: SparseConfig) -> Schedule:
        """Read the schedule's fields from a configuration."""
        method = config.facts
        return cls(
            1 if method.every_step else config.update_every,
            config.drop_fraction,
            config.decay,
            config.stop_at if method.stops else 1.0,
            config.prune_from,
            config.density_curve,
            config.density_moves,
            method.starts_dense or method.prunes_once,
            method.stops,
            method.prunes_once,
        )

    def due(self, step: int, horizon: int | None) -> bool:
        """Whether the topology is updated after optimizer step number `step` (from 1)."""
        if step < 1:
            return False
        if self.prunes:
            return self._prunes_at(step, horizon)
        if self.moves_density and horizon is not None and step == self._window(horizon)[1]:
            return True
        if step % self.update_every:
            return False
        return not self.stops or horizon is None or step < self.stop_at * horizon

    def _prunes_at(self, step: int, horizon: int | None) -> bool:
        if horizon is None:
            return False
        begin, end = self._window(horizon)
        if self.once:
            return step == begin
        return step == end or (begin <= step < end and step % self.update_every == 0)

    def _window(self, horizon: int) -> tuple[int, int]:
        begin = max(1, math.ceil(self.prune_from * horizon))
        return begin, max(begin, math.ceil(self.stop_at * horizon))

    def last(self, step: int, horizon: int | None) -> bool:
        """Whether no update follows the one at `step`."""
        return horizon is not None and not self.due(step + self.update_every, horizon)

    def progress(self, step: int, horizon: int | None) -> float:
        """Return how much of the time until the topology is frozen has passed, in [0, 1]."""
        end = self.stop_at * (horizon or 0)
        return min(1.0, step / end) if end else float(horizon is not None)

    def fraction(self, step: int, horizon: int | None) -> float:
        """Return the fraction of active weights that the update at `step` moves."""
        floor = 0.0 if self.stops else min(FLOOR, self.drop_fraction)
        if horizon is None or self.decay == "constant":
            return self.drop_fraction
        progress = self.progress(step, horizon)
        if self.decay == "cosine":
            falling = (1 + math.cos(math.pi * progress)) / 2
        else:
            falling = (1 - progress) ** {"linear": 1, "inverse_power": 3}[self.decay]
        return max(floor, self.drop_fraction * falling)

    def pruned(self, step: int, horizon: int) -> float:
        """Return how much of the way from the initial to the final density is done, in [0, 1]."""
        begin, end = self._window(horizon)
        if self.once or step >= end:
            return 1.0
        return CURVES[self.curve](max(0, step - begin) / (end - begin))


def _sigmoid(x: float) -> float:
    low, here, high = (1 / (1 + math.exp(-6 * (2 * at - 1))) for at in (0, x, 1))
    return (here - low) / (high - low)


CURVES: dict[str, Callable[[float], float]] = {
    "cubic": lambda x: 1 - (1 - x) ** 3,
    "linear": lambda x: x,
    "sigmoid": _sigmoid,
    "annealed": lambda x: x + math.sin(math.pi * x) / math.pi,
}
"""Name of a curve -> how much of the way is done."""
