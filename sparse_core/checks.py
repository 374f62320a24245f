"""Checks of configuration fields: one line that names the field, the value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping


class InputError(ValueError):
    """What the user wrote is wrong: one line names the field or layer, the value and a way out.

    Any other exception is a fault of the program or of code that it runs.

    Attributes:
        field: The configuration field that is wrong; None: not a single field.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


def one_of(field: str, value: object, allowed: Iterable[object] | Mapping[object, object]) -> None:
    """Raise an InputError that names field, value and choices unless value is one of them."""
    choices = list(allowed)
    if value not in choices:
        raise InputError(f"{field}={value!r}: must be one of {', '.join(map(str, choices))}")


def within(field: str, value: float, low: float, high: float, *, open_right: bool = False) -> None:
    """Raise an InputError that names field, value and range unless low <= value <= high."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (open_right and value == high):
        raise InputError(
            f"{field}={value!r}: must be a number in [{low:g}, {high:g}{')' if open_right else ']'}"
        )


def at_least(field: str, value: int, low: int) -> None:
    """Raise an InputError that names field, value and bound unless value is an integer >= low."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise InputError(f"{field}={value!r}: must be an integer of at least {low}")


def positive(field: str, value: float) -> None:
    """Raise an InputError that names field and value unless value is finite and positive."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise InputError(f"{field}={value!r}: must be a positive number")
