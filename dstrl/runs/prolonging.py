"""Which runs of reinforcement learning can go on from the end of a shorter one.

No torch is imported here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from dstrl.runs.hyperparameters import SCHEDULED, linear
from dstrl.settings import Settings
from sparse_core.checks import InputError


class Spec(Protocol):
    """What is asked of a `dstrl.runs.spec.RLSpec`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def steps(self) -> int | None:
        """Environment steps."""

    @property
    def eval_every(self) -> int | None:
        """Environment steps between evaluations."""

    @property
    def max_seconds(self) -> float | None:
        """Limit of CPU time."""

    @property
    def hyper(self) -> Mapping[str, Any]:
        """Hyper-parameters."""

    def settings(self) -> Settings:
        """Return what the policy is told about sparsity."""


def part_of(shorter: Spec, longer: Spec) -> float | None:
    """Return what part of a run another one is, both in their canonical form.

    Args:
        shorter: The run of fewer steps.
        longer: The run of more steps.

    Returns:
        In (0, 1); None if they differ in more than how long they are.

    Raises:
        InputError: If the longer run would not have been the same up to there, naming the field
            that depends on the number of steps.
    """
    as_long = dataclasses.replace(longer, steps=shorter.steps, eval_every=shorter.eval_every)
    if as_long != shorter or not shorter.steps or not longer.steps:
        return None
    if shorter.steps >= longer.steps:
        return None
    if shorter.eval_every != longer.eval_every:
        raise InputError(
            f"eval_every={longer.eval_every!r}: must be {shorter.eval_every}, as in the run of "
            f"{shorter.steps} steps that is to be prolonged",
            field="eval_every",
        )
    for field, value, why in _bound(longer):
        raise InputError(
            f"{field}={value!r}: a run of {shorter.steps} steps cannot be prolonged, {why}",
            field=field,
        )
    return shorter.steps / longer.steps


def _bound(spec: Spec) -> Iterator[tuple[str, object, str]]:
    """Yield the fields whose meaning depends on the number of steps, their values, and why."""
    if spec.max_seconds is not None:
        yield "max_seconds", spec.max_seconds, "its end depends on the machine"
    for name in sorted(SCHEDULED & spec.hyper.keys()):
        if linear(spec.hyper[name]) is not None:
            yield f"hyper.{name}", spec.hyper[name], "the value falls to 0 over all its steps"
    fraction = spec.hyper.get("exploration_fraction")
    ends = [spec.hyper.get(f"exploration_{end}_eps") for end in ("initial", "final")]
    if fraction is not None and ends[0] != ends[1]:
        yield "hyper.exploration_fraction", fraction, "exploration falls over a part of all steps"
    settings = spec.settings()
    for config in (settings.actor, settings.critic):
        if field := config.bound_to_length:
            why = (
                "all its rounds are of that length"
                if field == "rounds"
                else "its topology's schedule ends with its steps; with a sparse.horizon it can"
            )
            yield f"sparse.{field}", getattr(config, field), why
