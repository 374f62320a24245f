"""Spaces of vectors, and what a change of their features makes of the bounds."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sparse_core.checks import InputError


def vector_space(env: gym.Env[Any, Any]) -> spaces.Box:
    """Return the observation space of an environment that observes a vector of floats.

    Raises:
        InputError: If it observes anything else.
    """
    space = env.observation_space
    vector = isinstance(space, spaces.Box) and len(space.shape) == 1
    if not vector or not np.issubdtype(space.dtype, np.floating):
        raise InputError(f"env={env}: must observe a vector of floats, not {space}", field="env")
    assert isinstance(space, spaces.Box)
    return space


def box(low: Any, high: Any, space: spaces.Box) -> spaces.Box:
    """Return a space of these bounds, (d,) each, and of the same kind of numbers as `space`."""
    return spaces.Box(low, high, np.shape(low), dtype=space.dtype.type)
