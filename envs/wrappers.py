"""Wrappers that a run can name: each is an entry of `WRAPPERS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from envs.acting import ActionPermutation, RewardFlip
from envs.moving import DynamicsSchedule
from envs.noise import NoisyFeatures
from envs.observing import ObservationScaleDrift, PermuteObservation, SensorDropout

WRAPPERS: Mapping[str, type[gym.Wrapper[Any, Any, Any, Any]]] = {
    wrapper.__name__: wrapper
    for wrapper in (
        NoisyFeatures,
        PermuteObservation,
        SensorDropout,
        ObservationScaleDrift,
        ActionPermutation,
        RewardFlip,
        DynamicsSchedule,
    )
}
"""Those that a run can name, by the names of the classes."""
