"""An environment by name, with its arguments and its wrappers.

    CartPole-v1                  Gymnasium's id
    my_package:Mine-v0           the same, of a module that registers it when it is imported
    my_package.module:NAME       a class, or a function, that returns an environment

A wrapper is named by its class in `envs.wrappers.WRAPPERS` or by `package.module:NAME`, those of
Gymnasium too: `gymnasium.wrappers:TimeLimit`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator

from envs.wrappers import WRAPPERS
from sparse_core.checks import InputError
from sparse_core.imports import import_module, is_reference, load

ENVIRONMENT = "a class or function that returns an environment"
WRAPPER = "a wrapper: a class or function that takes an environment and returns one"

OF_MAKE = ("max_episode_steps", "disable_env_checker")
"""Arguments of `gymnasium.make` itself, which may stand among those of an environment."""


@dataclass(frozen=True)
class EnvBuilder:
    """Makes environments of one kind.

    Attributes:
        env: Gymnasium's id, `module:id`, or `package.module:NAME`.
        env_kwargs: Arguments of the environment.
        wrappers: Names of wrappers, the innermost first.
        wrapper_kwargs: Arguments of wrappers, by the last part of a wrapper's name.
    """

    env: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: Sequence[str] = ()
    wrapper_kwargs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> EnvBuilder:
        """Take the fields that a mapping has among others; None counts as not there."""
        names = [item.name for item in dataclasses.fields(cls)]
        return cls(**{name: values[name] for name in names if values.get(name) is not None})

    def check(self) -> None:
        """Look for everything that is named, and at the arguments; nothing is made.

        Raises:
            InputError: In one line, with the field and its value.
        """
        self._check_types()
        if "render_mode" in self.env_kwargs:
            raise InputError(
                f"env_kwargs.render_mode={self.env_kwargs['render_mode']!r}: is left to whoever "
                "watches the run",
                field="env_kwargs.render_mode",
            )
        made_by = self._creator()
        if made_by is not None:
            given = {name: v for name, v in self.env_kwargs.items() if name not in self._of_make()}
            if not is_reference(self.env):
                given = registered(self.env).kwargs | given
            _check_arguments("env_kwargs", self.env_kwargs, made_by, given)
        known = [last_part(name) for name in self.wrappers]
        for name, arguments in self.wrapper_kwargs.items():
            if known.count(name) != 1:
                what = "two wrappers have this name" if name in known else "there is no such one"
                raise InputError(
                    f"wrapper_kwargs.{name}={dict(arguments)!r}: {what} among wrappers="
                    f"{list(self.wrappers)}; here each goes by the last part of its name",
                    field=f"wrapper_kwargs.{name}",
                )
        for name in self.wrappers:
            arguments = self.wrapper_kwargs.get(last_part(name), {})
            path = f"wrapper_kwargs.{last_part(name)}"
            _check_arguments(path, arguments, wrapper_named(name), arguments, None)

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make an environment with its wrappers.

        Args:
            render_mode: As Gymnasium takes it; None: the environment is not told, it may know none.

        Raises:
            InputError: If what is named makes no environment, or refuses its arguments.
        """
        how: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        try:
            if is_reference(self.env):
                env = self._make_own(how)
            else:
                env = gym.make(self.env, **self.env_kwargs, **how)
        except InputError as error:
            raise error.below("env_kwargs") if error.concerns(self.env_kwargs) else error from None
        for name in self.wrappers:
            arguments = self.wrapper_kwargs.get(last_part(name), {})
            try:
                env = wrapper_named(name)(env, **arguments)
            except InputError as error:
                path = f"wrapper_kwargs.{last_part(name)}"
                raise error.below(path) if error.concerns(arguments) else error from None
            _check_made("wrappers", name, env)
        return env

    def _check_types(self) -> None:
        if not isinstance(self.wrappers, (list, tuple)):
            raise InputError(
                f"wrappers={self.wrappers!r}: must be a list of names", field="wrappers"
            )
        for name in self.wrappers:
            if not isinstance(name, str):
                raise InputError(f"wrappers={name!r}: must be a name", field="wrappers")
        mappings: dict[str, Any] = {
            "env_kwargs": self.env_kwargs,
            "wrapper_kwargs": self.wrapper_kwargs,
        }
        if isinstance(self.wrapper_kwargs, Mapping):
            parts = self.wrapper_kwargs.items()
            mappings |= {f"wrapper_kwargs.{name}": value for name, value in parts}
        for path, value in mappings.items():
            if not isinstance(value, Mapping):
                raise InputError(f"{path}={value!r}: must be a mapping", field=path)

    def _make_own(self, how: Mapping[str, Any]) -> gym.Env[Any, Any]:
        made_by = load("env", self.env, ENVIRONMENT, callable)
        if how and not _takes(made_by, {**self.env_kwargs, **how}):
            raise InputError(f"env={self.env!r}: must take render_mode to be shown", field="env")
        return _check_made("env", self.env, made_by(**self.env_kwargs, **how))

    def _of_make(self) -> Sequence[str]:
        return () if is_reference(self.env) else OF_MAKE

    def _creator(self) -> Callable[..., Any] | None:
        """Return what makes the environment, found but not called; None: its library is missing."""
        if is_reference(self.env):
            found: Callable[..., Any] = load("env", self.env, ENVIRONMENT, callable)
            return found
        spec = registered(self.env)
        if not self.env_kwargs or spec.entry_point is None:
            return None
        if callable(spec.entry_point):
            return spec.entry_point
        try:
            return load_env_creator(spec.entry_point)
        except (ImportError, gym.error.Error):
            return None


def registered(env: str) -> gym.envs.registration.EnvSpec:
    """Return what Gymnasium knows of an id, `module:id` among them: the module is imported.

    Raises:
        InputError: If there is no such module or environment.
    """
    if not isinstance(env, str):
        raise InputError(f"env={env!r}: must be text", field="env")
    module, colon, name = env.rpartition(":")
    if colon:
        import_module("env", env, module, "an environment that it registers")
    try:
        return gym.spec(name)
    except (gym.error.Error, ImportError) as error:
        raise InputError(f"env={env!r}: {' '.join(str(error).split())}", field="env") from None


def wrapper_named(name: str) -> Callable[..., gym.Env[Any, Any]]:
    """Return a wrapper by the name of its class here, or by `package.module:NAME`.

    Raises:
        InputError: If there is none.
    """
    if name in WRAPPERS:
        return WRAPPERS[name]
    if not is_reference(name):
        raise InputError(
            f"wrappers={name!r}: must be one of {', '.join(WRAPPERS)}, or package.module:NAME",
            field="wrappers",
        )
    found: Callable[..., gym.Env[Any, Any]] = load("wrappers", name, WRAPPER, callable)
    return found


def last_part(name: str) -> str:
    """Return the last part of a name: of `package.module:NAME` it is `NAME`."""
    return name.replace(":", ".").rpartition(".")[2]


def _check_made(field: str, name: str, made: Any) -> gym.Env[Any, Any]:
    """Return what was made if it is an environment.

    Raises:
        InputError: If it is another object, or lacks what training needs.
    """
    lacking = ""
    if not isinstance(made, gym.Env):
        kind = f"the class {made.__name__}" if isinstance(made, type) else type(made).__name__
        lacking = f"returns {kind}, must return a gymnasium.Env"
    elif not all(
        isinstance(getattr(made, space, None), spaces.Space)
        for space in ("observation_space", "action_space")
    ):
        lacking = "its environment has no observation_space or no action_space of Gymnasium's"
    elif not _takes(made.reset, {"seed": 0, "options": None}):
        lacking = "its environment's reset must take seed and options, as Gymnasium's does"
    if lacking:
        raise InputError(f"{field}={name!r}: {lacking}", field=field)
    assert isinstance(made, gym.Env)
    return made


def _check_arguments(
    path: str,
    shown: Mapping[str, Any],
    made_by: Callable[..., Any],
    arguments: Mapping[str, Any],
    *positional: Any,
) -> None:
    """Raise an InputError if something cannot be called with these arguments."""
    try:
        signature = inspect.signature(made_by)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*positional, **arguments)
    except TypeError as error:
        takes = [n for n in list(signature.parameters)[len(positional) :] if n != "render_mode"]
        name = getattr(made_by, "__name__", type(made_by).__name__)
        raise InputError(
            f"{path}={dict(shown)!r}: {error}; {name} takes {', '.join(takes) or 'none'}",
            field=path,
        ) from None


def _takes(function: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(**arguments)
    except (TypeError, ValueError):
        return False
    return True
