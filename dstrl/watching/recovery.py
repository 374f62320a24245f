"""How long an agent takes to recover when its world changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

SHARE = 0.9
"""Of what a change took away, what must be back."""


def recovery_times(
    curve: Sequence[Sequence[float]], switches: Sequence[float], share: float = SHARE
) -> list[list[float]]:
    """Return the time from each switch until the lost return is back, as far as a curve shows it.

    What was lost is the last value before a switch less the lowest one before the next; it is back
    at the first later point whose value is at least the lowest plus `share` of the loss. A switch
    after which no value is below the one before took no time, 0. One after which the value stays
    below counts the whole time until the next switch, or until the curve ends: the least that it
    can have been.

    Args:
        curve: (x, value), x ascending.
        switches: Where the world changed, ascending, in units of x.
        share: In (0, 1].

    Returns:
        (number of the switch from 1, time) for each with a point before it and one after.
    """
    points = np.asarray(curve, dtype=float).reshape(-1, 2)
    ends = [*switches[1:], np.inf][: len(switches)]
    found = []
    for number, (switch, end) in enumerate(zip(switches, ends, strict=True), 1):
        before = points[points[:, 0] <= switch]
        after = points[(points[:, 0] > switch) & (points[:, 0] <= end)]
        if not len(before) or not len(after):
            continue
        level, lowest = before[-1, 1], after[:, 1].min()
        if lowest >= level:
            found.append([number, 0.0])
            continue
        later = after[after[:, 1].argmin() :]
        back = later[later[:, 1] >= lowest + share * (level - lowest)]
        until = back[0, 0] if len(back) else min(end, points[-1, 0])
        found.append([number, float(until - switch)])
    return found


class SwitchWatch(BaseCallback):
    """Notes when the world of the first environment changes from one regime to another.

    Regimes are whole numbers in `info["regime"]`, and what the environment says to change at a
    stroke, such as physics by a schedule of kind `step` (`envs.drift.Drifting.jumping`); what
    drifts has no moment of change.

    Attributes:
        switches: Environment steps at which one did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.switches: list[int] = []
        self._jumping: tuple[tuple[str, ...], ...] = ()
        self._regime: dict[tuple[str, ...], Any] | None = None

    def _on_training_start(self) -> None:
        envs = self.training_env
        if envs.has_attr("jumping"):
            self._jumping = tuple(envs.env_method("jumping", indices=0)[0])

    def _on_step(self) -> bool:
        regime = self.locals["infos"][0].get("regime")
        if isinstance(regime, Mapping):
            now = _whole(regime) | {path: _at(regime, path) for path in self._jumping}
            if self._regime is not None and now != self._regime:
                self.switches.append(self.num_timesteps)
            self._regime = now
        return True


def _whole(regime: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    return {
        (name,): int(value)
        for name, value in regime.items()
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    }


def _at(regime: Any, path: Sequence[str]) -> Any:
    for name in path:
        regime = regime.get(name) if isinstance(regime, Mapping) else None
    return regime
