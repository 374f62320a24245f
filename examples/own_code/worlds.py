"""An environment of one's own: keep a ball on a beam whose slope drifts from episode to episode."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

EDGE = 1.0


class Beam(gym.Env[np.ndarray, int]):
    """Push a ball left, right or not at all; it pays 1 a step on the beam, for 200 steps.

    Args:
        drift: How far the slope can change from one episode to the next.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, drift: float = 0.004) -> None:
        self.drift = drift
        self.slope = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode on a slope near the last one's."""
        super().reset(seed=seed)
        change = self.np_random.uniform(-self.drift, self.drift)
        self.slope = float(np.clip(self.slope + change, -0.01, 0.01))
        self.place, self.speed = self.np_random.uniform(-0.3, 0.3, 2) * (1.0, 0.1)
        self.steps = 0
        return self._seen(), {"slope": self.slope}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Push the ball by -1, 0 or 1."""
        self.speed += self.slope + 0.02 * (int(action) - 1) + self.np_random.normal(0, 0.005)
        self.place += self.speed
        self.steps += 1
        fell = bool(abs(self.place) > EDGE)
        return self._seen(), float(not fell), fell, self.steps >= 200, {"slope": self.slope}

    def _seen(self) -> np.ndarray:
        edges = (EDGE - self.place, EDGE + self.place)
        return np.array([self.place, self.speed, *edges], np.float32)
