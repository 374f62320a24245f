"""CartPole and Pendulum whose physics can be chosen, for sequences of tasks that differ in it.

The physics are arguments of the environment, so that its `spec` makes the same one again.
"""

from __future__ import annotations

from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from sparse_core.checks import positive_float

CARTPOLE = "ChangedCartPole-v0"
"""Gymnasium's id of it, known once `envs` is imported."""

PENDULUM = "ChangedPendulum-v0"
"""Gymnasium's id of it, known once `envs` is imported."""

PENDULUM_STEPS = 200
"""Length of an episode, as in Pendulum-v1."""

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
        InputError: If one of the numbers is not positive.
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
        checked = {name: positive_float(name, value) for name, value in values.items()}
        super().__init__(render_mode=render_mode)
        for name, value in checked.items():
            setattr(self, name, value)
        self.total_mass = self.masspole + self.masscart
        self.polemass_length = self.masspole * self.length


class ChangedPendulum(PendulumEnv):
    """Pendulum with other physics; with the defaults it is Pendulum-v1.

    Args:
        gravity: m/s².
        mass: kg.
        length: m.
        render_mode: As in Gymnasium.

    Raises:
        InputError: If one of the numbers is not positive.
    """

    def __init__(
        self,
        gravity: float = 10.0,
        mass: float = 1.0,
        length: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode, g=positive_float("gravity", gravity))
        self.m = positive_float("mass", mass)
        self.l = positive_float("length", length)
