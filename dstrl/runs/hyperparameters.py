"""Hyper-parameters for each algorithm and environment, read from `tuned/<algo>.yaml`.

The block `default` is the registry: its keys are the ones there are, and the type of a value says
what another value must be. An environment's block, named with or without its version, overrides it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from dstrl.runs import references
from sparse_core.checks import InputError
from sparse_core.imports import is_reference

ALGORITHMS = ("ppo", "a2c", "dqn", "sac", "td3", "ddpg")

SCHEDULED = frozenset({"learning_rate", "clip_range"})
"""What may also be `lin_x`: falling linearly from x to 0 over the training."""

ACTIVATIONS = ("tanh", "relu", "elu", "gelu")


def defaults(algo: str, env: str) -> dict[str, Any]:
    """Return all hyper-parameters of an algorithm, as tuned for an environment where that was done.

    Args:
        algo: One of `ALGORITHMS`.
        env: Gymnasium's id; nothing is tuned for environments named by `package.module:NAME`.
    """
    table = _table(algo)
    if is_reference(env):
        return dict(table["default"])
    name = env.rpartition(":")[2]
    tuned = table.get(name) or table.get(name.rpartition("-v")[0]) or {}
    return table["default"] | tuned


def check(algo: str, env: str, values: Mapping[str, Any]) -> None:
    """Check overrides of hyper-parameters.

    Raises:
        ValueError: Naming key, value and what is allowed.
    """
    known = _table(algo)["default"]
    for key, value in values.items():
        if key not in known:
            raise InputError(f"hyper={key!r}: {algo} has {', '.join(known)}", field="hyper")
        expected = _refusal(key, value, known[key])
        if expected:
            raise InputError(f"hyper.{key}={value!r}: must be {expected}", field=f"hyper.{key}")
        if key == "activation" and value not in ACTIVATIONS:
            references.activation(value)


def tuned(algo: str) -> list[str]:
    """Return the environments for which there are values, some without their version."""
    return [name for name in _table(algo) if name != "default"]


def is_tuned(algo: str, env: str) -> bool:
    """Whether there are values for this very environment, version included."""
    return "-v" in env and env in _table(algo)


def linear(value: object) -> float | None:
    """Return x of `lin_x`; None if the value is something else."""
    if not isinstance(value, str) or not value.startswith("lin_"):
        return None
    try:
        return float(value.removeprefix("lin_"))
    except ValueError:
        return None


def _refusal(key: str, value: Any, default: Any) -> str:
    """Say what a value must be; empty if it is."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    finite = number and math.isfinite(value)
    if key == "net_arch":
        fits = isinstance(value, (list, tuple)) and all(type(n) is int and n > 0 for n in value)
        return "" if fits else "a list of positive integers"
    if key == "activation":
        known = value in ACTIVATIONS or is_reference(value)
        return "" if known else f"one of {', '.join(ACTIVATIONS)}, or package.module:NAME"
    if key == "ent_coef" and default == "auto":
        fits = finite or (isinstance(value, str) and value.startswith("auto"))
        return "" if fits else "a number, auto or auto_<initial value>"
    if key in SCHEDULED:
        return "" if finite or linear(value) is not None else "a number or lin_<number>"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        return "" if type(value) is int else "an integer"
    if default is None:
        return "" if value is None or finite else "a number or null"
    return "" if finite else "a number"


@functools.cache
def _table(algo: str) -> dict[str, dict[str, Any]]:
    import yaml

    text = (resources.files("dstrl.runs") / "tuned" / f"{algo}.yaml").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return table
