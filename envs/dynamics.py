"""CartPole whose physics can be chosen, for sequences of tasks that differ in it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from sparse_core.checks import InputError

CARTPOLE = "ChangedCartPole-v0"
"""Gymnasium's id of it, known once `envs` is imported."""

MAX_RETURN = 500.0
"""The longest episode, each step of which is worth 1."""


class ChangedCartPole(CartPoleEnv):
    """CartPole with other physics; with the defaults it is CartPole-v1.

    Args:
        length: Half the pole's length, m.
        masspole: Mass of the pole, kg.
        gravity: m/s².
        force_mag: Force of a push, N.
        render_mode: As in Gymnasium.

    Raises:
        ValueError: If one of the numbers is not positive.
    """

    def __init__(
        self,
        length: float = 0.5,
        masspole: float = 0.1,
        gravity: float = 9.8,
        force_mag: float = 10.0,
        render_mode: str | None = None,
    ) -> None:
        values = {
            "length": length,
            "masspole": masspole,
            "gravity": gravity,
            "force_mag": force_mag,
        }
        check_physics(values)
        super().__init__(render_mode=render_mode)
        for name, value in values.items():
            setattr(self, name, float(value))
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length


def check_physics(values: Mapping[str, float]) -> None:
    """Raise a ValueError that names constant and value unless all are finite and positive."""
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= 0:
            raise InputError(f"{name}={value!r}: must be a positive number", field=name)
