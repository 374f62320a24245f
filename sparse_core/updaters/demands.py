"""The rules of a configuration, and what they need to see together.

The engine keeps one thing for all rules: the dense gradient, the same with inputs and outputs, or
running means. A rule that needs less uses a part of it. Two rules that need inputs and outputs on
the one hand, running means on the other, are refused.
"""

from __future__ import annotations

from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.imports import is_reference, source
from sparse_core.naming import drop_rule_named, growth_rule_named
from sparse_core.rules import NEEDS, drop_of, growth_of
from sparse_core.updaters.scene import Score


def grow_score(config: SparseConfig) -> Score:
    """Return the growth rule in force.

    Raises:
        InputError: If there is none, or it cannot be found.
    """
    if config.growth_rule is None:
        raise InputError(
            f"method={config.method!r}: its updater grows by a rule, but its `growth` is empty",
            field="method",
        )
    return growth_rule_named(config.growth_rule)


def drop_score(config: SparseConfig) -> Score:
    """Return the drop rule in force.

    Raises:
        InputError: If there is none, or it cannot be found.
    """
    if config.drop_rule is None:
        raise InputError(
            f"method={config.method!r}: its updater drops by a rule, but its `drop` is None",
            field="method",
        )
    return drop_rule_named(config.drop_rule)


def own_rules(config: SparseConfig) -> str:
    """Return the user's own rules in force with their files, to begin an error with."""
    rules = {"growth": config.growth_rule, "drop": config.drop_rule}
    return "".join(
        f"{field}={name!r} ({source(name)}): "
        for field, name in rules.items()
        if name is not None and is_reference(name)
    )


def demands(config: SparseConfig) -> dict[str, str]:
    """Return what the rules in force need to see, by field, `growth` and `drop`."""
    found = {}
    if config.growth_rule is not None and (grow := growth_of(grow_score(config))) is not None:
        found["growth"] = grow.needs
    if config.drop_rule is not None and (drop := drop_of(drop_score(config))) is not None:
        found["drop"] = drop.needs
    return found


def needed(config: SparseConfig) -> str:
    """Return what the engine has to keep for the rules in force.

    Returns:
        `nothing`, `gradient`, `signals` or `momentum`.

    Raises:
        InputError: If one needs `momentum` and the other `signals`.
    """
    asked = demands(config)
    if {"signals", "momentum"} <= set(asked.values()):
        raise InputError(
            f"growth={config.growth_rule!r}: needs {asked['growth']}, and drop="
            f"{config.drop_rule!r} needs {asked['drop']}; no method keeps both",
            field="growth",
        )
    most = max(asked.values(), key=NEEDS.index, default="nothing")
    return "gradient" if most == "active_gradient" else most
