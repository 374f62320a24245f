"""What a name in a configuration stands for: one of ours, or the user's `package.module:NAME`.

Only the module that a name stands for is imported; torch only if that module imports it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sparse_core.checks import InputError
from sparse_core.imports import is_reference, load, source
from sparse_core.method import Method
from sparse_core.registry import DISTRIBUTIONS, DROP_RULES, GROWTH_RULES, METHODS
from sparse_core.rules import drop_of, growth_of


def check_name(field: str, name: object, names: Mapping[str, object]) -> None:
    """Check that a field's value is a name of ours, or has the form of a reference.

    Raises:
        InputError: That names field, value and what is allowed.
    """
    if not isinstance(name, str) or (name not in names and not is_reference(name)):
        raise InputError(
            f"{field}={name!r}: must be one of {', '.join(names)}, or package.module:NAME of your "
            "own",
            field=field,
        )


def method_named(name: str) -> Method:
    """Return what a method is.

    Raises:
        InputError: If there is none of this name, or what is found is no `Method`.
    """
    check_name("method", name, METHODS)
    if name in METHODS:
        return METHODS[name]
    expected = "a sparse_core.Method"
    found: Method = load("method", name, expected, lambda found: isinstance(found, Method))
    return found


def growth_rule_named(name: str) -> Callable[[Any], Any]:
    """Return the function of a growth rule; raises as `method_named`."""
    expected = "a function declared with @growth_rule(...) of sparse_core, of one argument"
    return _function("growth", name, GROWTH_RULES, expected, growth_of)


def drop_rule_named(name: str) -> Callable[[Any], Any]:
    """Return the function of a drop rule; raises as `method_named`."""
    expected = "a function declared with @drop_rule(...) of sparse_core, of one argument"
    return _function("drop", name, DROP_RULES, expected, drop_of)


def distribution_named(name: str) -> Callable[[Any], float]:
    """Return the function of a distribution; raises as `method_named`."""
    expected = "a function of a layer's weight that returns its relative density"
    return _function("distribution", name, DISTRIBUTIONS, expected, callable)


def own_name(reference: str, names: Mapping[str, str]) -> str:
    """Return our name for what a reference names; the reference itself if we have none."""
    return next((name for name, path in names.items() if path == reference), reference)


def check_drop(name: str) -> None:
    """Check that there is a drop rule; one of the user's own is imported. Raises InputError."""
    check_name("drop", name, DROP_RULES)
    if is_reference(name):
        drop_rule_named(name)


def check_distribution(name: str) -> None:
    """Check that there is a distribution; one of the user's own is imported. Raises InputError."""
    check_name("distribution", name, DISTRIBUTIONS)
    if is_reference(name):
        distribution_named(name)


def check_growth(growth: str, method: str) -> None:
    """Check that a method can grow by a rule.

    It can by those that it lists, and by those that no method lists, such as the user's own. Of
    these a reference is imported to see whether the rule samples.

    Args:
        growth: Name of the rule, or a reference.
        method: Name of the method, or a reference.

    Raises:
        InputError: If it cannot, or there is no such rule.
    """
    check_name("growth", growth, GROWTH_RULES)
    facts, name = method_named(method), own_name(growth, GROWTH_RULES)
    said = f"growth={growth!r}"
    if not facts.growth:
        raise InputError(f"{said}: method {method!r} grows nothing", field="growth")
    if name in facts.growth:
        return
    if any(name in known.growth for known in METHODS.values()):
        usable = ", ".join(facts.growth)
        raise InputError(f"{said}: method {method!r} can use {usable}", field="growth")
    rule = growth_of(growth_rule_named(name)) if is_reference(name) else None
    if rule is not None and rule.samples != facts.samples:
        declared = f"is declared with samples={rule.samples} in {source(name)}"
        raise InputError(
            f"{said}: {declared}, method {method!r} needs samples={facts.samples}", field="growth"
        )


def _function(
    field: str,
    name: str,
    names: Mapping[str, str],
    expected: str,
    accepts: Callable[[Any], object],
) -> Callable[[Any], Any]:
    check_name(field, name, names)
    found: Callable[[Any], Any] = load(
        field,
        names.get(name, name),
        expected,
        lambda found: bool(accepts(found)) and _takes_one(found),
    )
    return found


def _takes_one(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with one argument, as far as it says what it takes."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True
