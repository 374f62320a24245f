"""What of an environment's physics can be changed while it lives, and what then follows from it.

What can be changed, by the environment:

    CartPole                gravity, masscart, masspole, length, force_mag
    Pendulum                gravity, mass, length
    Acrobot                 mass_1, mass_2, length_1, length_2, inertia, torque
    MountainCar             force, gravity
    MountainCarContinuous   power
    MuJoCo                  mass, friction, gravity, gear, damping; of one part, such as mass:torso
    any other               each attribute that is a number; nothing else follows from it
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from sparse_core.checks import InputError


class Physics(Protocol):
    """The physics of one environment as it came, and how to change it."""

    def apply(self, factors: Mapping[str, float]) -> None:
        """Set each parameter to that many times what it came with."""


def _cartpole(env: Any) -> None:
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length


def _nothing(env: Any) -> None:
    """Nothing follows."""


_CARTPOLE = ("gravity", "masscart", "masspole", "length", "force_mag")

KNOWN: Mapping[type, tuple[Mapping[str, tuple[str, ...]], Callable[[Any], None]]] = {
    CartPoleEnv: ({name: (name,) for name in _CARTPOLE}, _cartpole),
    PendulumEnv: ({"gravity": ("g",), "mass": ("m",), "length": ("l",)}, _nothing),
    AcrobotEnv: (
        {
            "mass_1": ("LINK_MASS_1",),
            "mass_2": ("LINK_MASS_2",),
            "length_1": ("LINK_LENGTH_1", "LINK_COM_POS_1"),
            "length_2": ("LINK_LENGTH_2", "LINK_COM_POS_2"),
            "inertia": ("LINK_MOI",),
            "torque": ("AVAIL_TORQUE",),
        },
        _nothing,
    ),
    MountainCarEnv: ({"force": ("force",), "gravity": ("gravity",)}, _nothing),
    Continuous_MountainCarEnv: ({"power": ("power",)}, _nothing),
}
"""Class -> its parameters with their attributes, and what to compute from them anew."""


class Attributes:
    """Physics kept in attributes of the environment.

    Args:
        env: The bare environment.
        names: Those of the parameters that change.

    Raises:
        InputError: If it has no such parameter.
    """

    def __init__(self, env: gym.Env[Any, Any], names: tuple[str, ...]) -> None:
        self.env = env
        known = [kind for kind in KNOWN if isinstance(env, kind)]
        table, self._settle = KNOWN[known[0]] if known else (_numbers(env), _nothing)
        for name in names:
            if name not in table:
                raise _lacking(name, env, table)
        self._came: dict[str, dict[str, Any]] = {
            name: {attribute: getattr(env, attribute) for attribute in table[name]}
            for name in names
        }
        for name in names:
            if not all(map(np.any, self._came[name].values())):
                raise _nothing_there(name, env)

    def apply(self, factors: Mapping[str, float]) -> None:
        """Set each parameter to that many times what it came with."""
        for name, factor in factors.items():
            for attribute, came in self._came[name].items():
                several = isinstance(came, (list, tuple))
                now = [one * factor for one in came] if several else came * factor
                setattr(self.env, attribute, now)
        self._settle(self.env)


class Bodies:
    """Physics of a MuJoCo model: what the compiler made of it is made anew.

    Inertias go with masses. A parameter of a part, `mass:torso`, multiplies that of the whole.

    Args:
        env: The bare environment.
        names: Those of the parameters that change.

    Raises:
        InputError: If there is no such parameter or part, or it is zero.
    """

    PARAMETERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
        "mass": ("body", ("body_mass", "body_inertia")),
        "friction": ("geom", ("geom_friction",)),
        "gravity": ("", ("opt.gravity",)),
        "gear": ("actuator", ("actuator_gear",)),
        "damping": ("joint", ("dof_damping",)),
    }
    """Parameter -> what its parts are, and the model's arrays, a row for each part."""

    def __init__(self, env: gym.Env[Any, Any], names: tuple[str, ...]) -> None:
        self.env: Any = env
        self._rows = {name: self._rows_of(name) for name in names}
        arrays = dict.fromkeys(array for name in names for array in self._arrays(name))
        self._came = {array: self._get(array).copy() for array in arrays}
        for name in names:
            if not any(self._came[array][self._rows[name]].any() for array in self._arrays(name)):
                raise _nothing_there(name, env)
        self._compiled = any(_whole(name) in ("mass", "gear") for name in names)

    def apply(self, factors: Mapping[str, float]) -> None:
        """Set each parameter to that many times what it came with."""
        now = {array: came.copy() for array, came in self._came.items()}
        for name, factor in factors.items():
            for array in self._arrays(name):
                now[array][self._rows[name]] *= factor
        for array, values in now.items():
            self._get(array)[...] = values
        if self._compiled:
            mujoco: Any = sys.modules["mujoco"]
            mujoco.mj_setConst(self.env.model, mujoco.MjData(self.env.model))

    def _arrays(self, name: str) -> tuple[str, ...]:
        return self.PARAMETERS[_whole(name)][1]

    def _get(self, array: str) -> Any:
        found = self.env.model
        for part in array.split("."):
            found = getattr(found, part)
        return found

    def _rows_of(self, name: str) -> Any:
        whole, colon, part = name.partition(":")
        if whole not in self.PARAMETERS or (colon and not self.PARAMETERS[whole][0]):
            raise _lacking(name, self.env, self.PARAMETERS)
        if not colon:
            return slice(None)
        kind = self.PARAMETERS[whole][0]
        count = {"body": "nbody", "geom": "ngeom", "actuator": "nu", "joint": "njnt"}[kind]
        model = self.env.model
        parts = [getattr(model, kind)(i).name for i in range(getattr(model, count))]
        if part not in parts or not part:
            named = ", ".join(one for one in parts if one)
            raise InputError(
                f"parameters.{name}: {self.env} has no {kind} {part!r}, but {named}",
                field="parameters",
            )
        if kind == "joint":
            return np.flatnonzero(model.dof_jntid == parts.index(part))
        return [parts.index(part)]


def physics(env: gym.Env[Any, Any], names: tuple[str, ...]) -> Physics:
    """Return the physics of an environment, of which these parameters can change.

    Args:
        env: The bare environment.
        names: Of parameters.

    Raises:
        InputError: If it lacks one of them.
    """
    mujoco: Any = sys.modules.get("mujoco")
    model = getattr(env, "model", None)
    if mujoco is not None and isinstance(model, mujoco.MjModel):
        return Bodies(env, names)
    return Attributes(env, names)


def _whole(name: str) -> str:
    return name.partition(":")[0]


def _numbers(env: gym.Env[Any, Any]) -> dict[str, tuple[str, ...]]:
    """Return the attributes of an environment that are numbers."""
    return {
        name: (name,)
        for name, value in vars(env).items()
        if not name.startswith("_")
        and isinstance(value, (int, float, np.number))
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


def _lacking(name: str, env: gym.Env[Any, Any], known: Mapping[str, Any]) -> InputError:
    return InputError(
        f"parameters.{name}: {env} has no such parameter, but {', '.join(known) or 'none'}",
        field="parameters",
    )


def _nothing_there(name: str, env: gym.Env[Any, Any]) -> InputError:
    return InputError(
        f"parameters.{name}: is 0 in {env}, which no factor changes", field="parameters"
    )
