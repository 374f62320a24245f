"""What the named strategies are made of: settings of `SparseConfig` and a sharing policy.

No torch is imported here. `continual.strategies.named` has the same strategies for Avalanche, with
what they deviate in from the papers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.imports import load
from sparse_core.naming import check_name

MASKS = "masks"
"""No named strategy: the configuration and the sharing policy are taken as they are."""


@dataclass(frozen=True)
class Recipe:
    """What a strategy decides; all else is the caller's.

    Attributes:
        share: Its sharing policy; None: the caller's.
        settings: Its fields of `SparseConfig`.
        dense: What it leaves dense, besides what the caller does.
        methods: The methods that it is published for, where it leaves the choice; empty: any.
        strategy: Import string of the Avalanche strategy that is made of it; empty: there is none.
    """

    share: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    dense: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    strategy: str = ""


_NAMED = "continual.strategies.named"

RECIPES: Mapping[str, Recipe] = {
    MASKS: Recipe(),
    "cldst": Recipe(
        "reuse", methods=("rigl", "rigl_itop", "set", "snfs"), strategy=f"{_NAMED}:CLDST"
    ),
    "spacenet": Recipe(
        "forward",
        {"method": "set", "drop": "sensitivity", "growth": "importance"},
        strategy=f"{_NAMED}:SpaceNet",
    ),
    "packnet": Recipe(
        "all",
        {"method": "one_shot", "prune_from": 0.5, "distribution": "uniform"},
        dense=("output",),
        strategy=f"{_NAMED}:PackNet",
    ),
    "wsn": Recipe(
        "reuse",
        {"method": "wsn", "distribution": "uniform"},
        dense=("output",),
        strategy=f"{_NAMED}:WSN",
    ),
    "supsup": Recipe("reuse", {"method": "edge_popup"}, strategy=f"{_NAMED}:SupSup"),
    "static": Recipe(settings={"method": "static"}, strategy=f"{_NAMED}:StaticMasks"),
    "srigl": Recipe(settings={"method": "srigl"}, strategy=f"{_NAMED}:SRigLCL"),
}


def recipe_of(strategy: str) -> Recipe:
    """Return what a strategy decides.

    Args:
        strategy: A key of `RECIPES`, or `package.module:NAME` of a `Recipe` of the user's own.

    Raises:
        InputError: If there is no such strategy.
    """
    if strategy in RECIPES:
        return RECIPES[strategy]
    check_name("strategy", strategy, RECIPES)
    expected = "a continual.strategies.recipes.Recipe"
    recipe = load("strategy", strategy, expected, lambda found: isinstance(found, Recipe))
    assert isinstance(recipe, Recipe)
    return recipe


def check_isolated(strategy: str, isolation: str) -> None:
    """Check that a named strategy has the isolation that it cannot do without.

    Raises:
        ValueError: If it has not.
    """
    if strategy != MASKS and isolation == "none":
        raise InputError(f"isolation='none': strategy {strategy!r} needs 'hard'", field="isolation")


def resolve(strategy: str, sparse: SparseConfig, share: str) -> tuple[SparseConfig, str]:
    """Put a strategy's own settings into a configuration.

    Args:
        strategy: See `recipe_of`.
        sparse: The caller's configuration. Fields that the strategy decides have their defaults, or
            say the same; a default, also one that is spelt out, gives way to the strategy.
        share: The caller's sharing policy, likewise.

    Returns:
        The configuration and the sharing policy in force.

    Raises:
        ValueError: If there is no such strategy, or the caller contradicts it.
    """
    recipe = recipe_of(strategy)
    for name, own in recipe.settings.items():
        if getattr(sparse, name) not in (own, getattr(SparseConfig, name)):
            raise InputError(
                f"{name}={getattr(sparse, name)!r}: strategy {strategy!r} decides it, {own!r}",
                field=name,
            )
    if recipe.methods and sparse.method not in recipe.methods:
        raise InputError(
            f"method={sparse.method!r}: strategy {strategy!r} can use {', '.join(recipe.methods)}",
            field="method",
        )
    if recipe.share is not None and share not in (recipe.share, "none"):
        raise InputError(
            f"share={share!r}: strategy {strategy!r} decides it, {recipe.share!r}", field="share"
        )
    dense = dict.fromkeys((*sparse.dense, *recipe.dense))
    decided = {**recipe.settings, "dense": tuple(dense)}
    return dataclasses.replace(sparse, **decided), recipe.share or share  # type: ignore[arg-type]
