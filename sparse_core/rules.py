"""Growth rules and drop rules: functions that say at their definition what they need to see.

    @growth_rule(needs="gradient", by_rows=True)
    def gradient(scene: Scene) -> Tensor:
        return scene.gradient.abs()

A rule maps a `sparse_core.updaters.scene.Scene` to a `(rows, cols)` tensor of scores. Nothing here
imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sparse_core.checks import one_of

NEEDS = ("nothing", "active_gradient", "gradient", "signals", "momentum")
"""What a rule may need to see, in the step before an update unless it says otherwise:

- `nothing`: weights, masks and random numbers
- `active_gradient`: the gradient of the active weights, which training has anyway
- `gradient`: the dense gradient
- `signals`: the dense gradient, the layer's inputs and the gradients of its outputs
- `momentum`: running means of the dense gradient and of its square, over all steps
"""

FACTS = "rule_facts"
"""The attribute of a function that holds what it says of itself as a rule."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class GrowthFacts:
    """What a growth rule says of itself; see `growth_rule`."""

    needs: str = "nothing"
    by_rows: bool = False
    samples: bool = False
    uniform: bool = False
    places: Callable[..., Any] | None = None


@dataclass(frozen=True)
class DropFacts:
    """What a drop rule says of itself; see `drop_rule`."""

    needs: str = "nothing"
    by_weights: bool = False


def growth_rule(
    *,
    needs: str = "nothing",
    by_rows: bool = False,
    samples: bool = False,
    uniform: bool = False,
    places: Callable[..., Any] | None = None,
) -> Callable[[Function], Function]:
    """Declare a function as a growth rule: the candidates with the highest scores are grown.

    Args:
        needs: One of `NEEDS`.
        by_rows: Whether the scores of some rows follow from what a `Scene` shows of these rows, so
            that those of a large layer can be computed a block of rows at a time, in order.
        samples: Whether it looks at a sample of the positions only, with -inf everywhere else.
        uniform: Whether any inactive weight is as likely as any other, so that places can be drawn
            in a large layer, without a score for each weight.
        places: Of a rule whose score is the gradient's magnitude in some places: the function that
            names them (`sparse_core.updaters.places`), so that no other gradient is computed.

    Raises:
        InputError: If nothing of that kind can be needed.
    """
    one_of("needs", needs, NEEDS)
    return _declare(GrowthFacts(needs, by_rows, samples, uniform, places))


def drop_rule(
    *, needs: str = "nothing", by_weights: bool = False
) -> Callable[[Function], Function]:
    """Declare a function as a drop rule: the active weights with the lowest scores are dropped.

    Args:
        needs: One of `NEEDS`.
        by_weights: Whether the scores of the active weights follow from these weights alone,
            wherever they are, so that those of a large layer can be computed without its matrix:
            the scene then shows them as one row.

    Raises:
        InputError: If nothing of that kind can be needed.
    """
    one_of("needs", needs, NEEDS)
    return _declare(DropFacts(needs, by_weights))


def growth_of(rule: object) -> GrowthFacts | None:
    """Return what a growth rule says of itself; None: it is no growth rule."""
    facts = _declared(rule).get(GrowthFacts)
    return facts if isinstance(facts, GrowthFacts) else None


def drop_of(rule: object) -> DropFacts | None:
    """Return what a drop rule says of itself; None: it is no drop rule."""
    facts = _declared(rule).get(DropFacts)
    return facts if isinstance(facts, DropFacts) else None


def _declared(rule: object) -> dict[type, object]:
    """Return what a function says of itself, by kind: it may be a rule of both."""
    found = getattr(rule, FACTS, None) if callable(rule) and not isinstance(rule, type) else None
    return found if isinstance(found, dict) else {}


def _declare(facts: GrowthFacts | DropFacts) -> Callable[[Function], Function]:
    def declare(function: Function) -> Function:
        setattr(function, FACTS, {**_declared(function), type(facts): facts})
        return function

    return declare
