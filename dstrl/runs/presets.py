"""Presets: published systems by name, each a file in `recipes/` that cites its paper.

    dst train rl --preset rlx2 --algo td3 --env HalfCheetah-v5
    RLSpec.of(preset="rlx2", algo="td3", env="HalfCheetah-v5")

A recipe has a block of fields of `RLSpec` for each algorithm, and under `environments` what differs
in some of them, named with or without their version. Whatever is given beside the preset overrides
it. No torch is imported.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

from sparse_core.checks import InputError, one_of, within

READS = ("algo", "env", "noise")
"""The fields of a run that its preset's values depend on."""


def expand(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put the values of the preset that is named beneath those that are given.

    Args:
        values: Fields of a run, nested; `preset` among them or not.

    Returns:
        The fields, without `preset`. The algorithm is the recipe's first one if none is given.

    Raises:
        ValueError: If there is no such preset, or none for the algorithm, in one line.
    """
    said = dict(values)
    name = said.pop("preset", None)
    if name is None:
        return said
    one_of("preset", name, packaged())
    recipe = read(name)
    algorithms = algorithms_of(recipe)
    algo = said.get("algo", algorithms[0])
    if algo not in algorithms:
        raise InputError(
            f"preset={name!r}: is for {', '.join(algorithms)}, not for {algo}", field="preset"
        )
    fields = dict(recipe[algo])
    env = said.get("env", "")
    special = recipe.get("environments", {}).get(algo, {})
    fields = merge(fields, special.get(env) or special.get(env.rpartition("-v")[0]) or {})
    lambdas = fields.pop("lambdas", None)
    if lambdas is not None:
        fields |= layer_sparsities(lambdas, fields["net_arch"][0], *_sizes(said))
    return merge({"algo": algo} | fields, said)


def packaged() -> list[str]:
    """Return the names of the presets in `recipes/`."""
    entries = (resources.files("dstrl.runs") / "recipes").iterdir()
    return sorted(entry.name[:-5] for entry in entries if entry.name.endswith(".yaml"))


@functools.cache
def read(name: str) -> Mapping[str, Any]:
    """Return what a packaged preset's recipe says."""
    import yaml

    text = (resources.files("dstrl.runs") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    recipe: Mapping[str, Any] = yaml.safe_load(text)
    return recipe


def algorithms_of(recipe: Mapping[str, Any]) -> list[str]:
    """Return the algorithms that a recipe is for, its first choice first."""
    return [key for key in recipe if key not in ("paper", "environments")]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` on top of `base`; where both hold a mapping, its keys are merged."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = {**below, **value}
        else:
            merged[key] = value
    return merged


def layer_sparsities(
    lambdas: Mapping[str, float], width: int, observed: int, acted: int
) -> dict[str, tuple[tuple[str, float], ...]]:
    """Return `actor_layer_sparsity` and `critic_layer_sparsity` by the rule of DS-TD3.

        density = lambda (n_in + n_out) / (n_in n_out), at most 1    (Sokar et al. 2022, section 4)

    Args:
        lambdas: Of `input` and `hidden` layers.
        width: Neurons of a hidden layer.
        observed: Size of an observation.
        acted: Size of an action.
    """

    def sparsity(role: str, inputs: int) -> tuple[str, float]:
        return role, max(0.0, 1 - lambdas[role] * (inputs + width) / (inputs * width))

    hidden = sparsity("hidden", width)
    return {
        "actor_layer_sparsity": (sparsity("input", observed), hidden),
        "critic_layer_sparsity": (sparsity("input", observed + acted), hidden),
    }


def _sizes(values: Mapping[str, Any]) -> tuple[int, int]:
    """Return the sizes of observations and actions of a run's environment."""
    import gymnasium

    from envs.wrappers import noisy_size

    name, noise = values.get("env"), values.get("noise", 0.0)
    if name is None:
        raise InputError(
            "env=None: must be given, the preset's sparsities depend on it", field="env"
        )
    within("noise", noise, 0, 0.99)
    try:
        env = gymnasium.make(str(name))
    except (gymnasium.error.Error, ImportError) as error:
        raise InputError(f"env={name!r}: {' '.join(str(error).split())}", field="env") from None
    shapes = env.observation_space.shape, env.action_space.shape
    env.close()
    if not all(shape and len(shape) == 1 for shape in shapes):
        raise InputError(
            f"env={name!r}: the preset needs vectors as observations and actions", field="env"
        )
    (observed,), (acted,) = (shape or () for shape in shapes)
    return noisy_size(observed, noise), acted
