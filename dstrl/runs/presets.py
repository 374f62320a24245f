"""Presets: published systems by name, each a file in `recipes/` that cites its paper.

    dst train rl --preset rlx2 --algo td3 --env HalfCheetah-v5
    RLSpec.of(preset="rlx2", algo="td3", env="HalfCheetah-v5")

A recipe has a block of fields of `RLSpec` for each algorithm, and under `environments` what differs
in some of them, named with or without their version. Whatever is given beside the preset overrides
it. A file of your own in this form is a preset by its path: `--preset lab/mine.yaml`. No torch is
imported.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from dstrl.runs.hyperparameters import ALGORITHMS
from dstrl.runs.libraries import missing_library
from sparse_core.checks import InputError, one_of, within
from sparse_core.strict_yaml import read_yaml

ABOUT = ("paper", "environments")
"""Keys of a recipe that are not algorithms."""

SUFFIXES = (".yaml", ".yml")


def recipes_in(folder: Traversable) -> dict[str, Traversable]:
    """Return the recipes in a folder by their names, those of the files."""
    files = {entry.name: entry for entry in folder.iterdir()}
    return {name[:-5]: files[name] for name in sorted(files) if name.endswith(".yaml")}


PRESETS: Mapping[str, Traversable] = recipes_in(resources.files("dstrl.runs") / "recipes")
"""The packaged presets."""

READS = ("algo", "env", "env_kwargs", "wrappers", "wrapper_kwargs", "noise")
"""The fields of a run that its preset's values depend on."""


def expand(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Put the values of the preset that is named beneath those that are given.

    Args:
        values: Fields of a run, nested; `preset` among them or not.
        known: The fields that there are.

    Returns:
        The fields, without `preset`. The algorithm is the recipe's first one if none is given.

    Raises:
        ValueError: If there is no such preset, or none for the algorithm, in one line.
    """
    said = dict(values)
    name = said.pop("preset", None)
    if name is None:
        return said
    recipe = read(name)
    _check_fields(name, recipe, known)
    algorithms = algorithms_of(recipe)
    algo = said.get("algo", algorithms[0])
    if algo not in algorithms:
        raise InputError(
            f"preset={name!r}: is for {', '.join(algorithms)}, not for {algo}", field="preset"
        )
    fields = dict(recipe[algo])
    env = str(said.get("env", fields.get("env", "")))
    special = recipe.get("environments", {}).get(algo, {})
    fields = merge(fields, special.get(env) or special.get(env.rpartition("-v")[0]) or {})
    lambdas = fields.pop("lambdas", None)
    if lambdas is not None:
        fields |= layer_sparsities(lambdas, fields["net_arch"][0], *_sizes(merge(fields, said)))
    return merge({"algo": algo} | fields, said)


def read(name: str) -> Mapping[str, Any]:
    """Return what a recipe says.

    Args:
        name: A packaged preset, or the path of a YAML file like theirs.

    Raises:
        InputError: In one line, if there is none, or the file is no recipe.
    """
    if name in PRESETS:
        return _parsed(PRESETS[name].read_text(encoding="utf-8"))
    path = Path(str(name))
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"preset={name!r}: must be one of {', '.join(PRESETS)}, or the path of a YAML file",
            field="preset",
        )
    try:
        recipe = read_yaml(path.read_text(encoding="utf-8"))
        _check(recipe)
    except (InputError, OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"preset={str(name)!r}: {why}", field="preset") from error
    return dict(recipe)


def algorithms_of(recipe: Mapping[str, Any]) -> list[str]:
    """Return the algorithms that a recipe is for, its first choice first."""
    return [key for key in recipe if key not in ABOUT]


@functools.cache
def _parsed(text: str) -> Mapping[str, Any]:
    recipe: Mapping[str, Any] = read_yaml(text)
    return recipe


def _check(recipe: Any) -> None:
    """Raise an InputError unless a recipe has the form of those in `recipes/`."""
    blocks = recipe if isinstance(recipe, dict) else {}
    algorithms = algorithms_of(blocks)
    if not algorithms:
        raise InputError(f"must be a mapping with a block for {' or '.join(ALGORITHMS)}")
    for algo in algorithms:
        one_of("algorithm", algo, ALGORITHMS)
    special = blocks.get("environments", {})
    if not isinstance(special, dict) or not all(isinstance(v, dict) for v in special.values()):
        raise InputError("environments: must be a mapping of algorithms to blocks by environment")
    for algo in special:
        one_of("environments", algo, algorithms)
    for name, block in _blocks(blocks):
        if not isinstance(block, dict):
            raise InputError(f"{name}={block!r}: must be a mapping of fields of a run")
    for algo in algorithms:
        if "lambdas" in blocks[algo] and "net_arch" not in blocks[algo]:
            raise InputError(f"{algo}.lambdas: needs net_arch beside it")


def _check_fields(name: str, recipe: Mapping[str, Any], known: Collection[str]) -> None:
    allowed = [field for field in known if field not in ("preset", "seed")]
    for block, fields in _blocks(recipe):
        for field in fields:
            if field not in (*allowed, "lambdas"):
                raise InputError(
                    f"preset={str(name)!r}: {block}.{field}: must be one of {', '.join(allowed)}",
                    field="preset",
                )


def _blocks(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the blocks of fields by name, those of environments too."""
    for algo in algorithms_of(recipe):
        yield algo, recipe[algo]
    for algo, special in recipe.get("environments", {}).items():
        for env, block in special.items():
            yield f"environments.{algo}.{env}", block


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `over` on top of `base`; mappings in both are merged, at any depth."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
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
    from envs.making import EnvBuilder
    from envs.noise import noisy_size

    name, noise = values.get("env"), values.get("noise", 0.0)
    if name is None:
        raise InputError(
            "env=None: must be given, the preset's sparsities depend on it", field="env"
        )
    within("noise", noise, 0, 0.99)
    missing = missing_library(str(name))
    if missing is not None:
        raise InputError(f"env={name!r}: {missing}", field="env")
    builder = EnvBuilder.of(values)
    builder.check()
    env = builder.make()
    shapes = env.observation_space.shape, env.action_space.shape
    env.close()
    if not all(shape and len(shape) == 1 for shape in shapes):
        raise InputError(
            f"env={name!r}: the preset needs vectors as observations and actions", field="env"
        )
    (observed,), (acted,) = (shape or () for shape in shapes)
    return noisy_size(observed, noise), acted
