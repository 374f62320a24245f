"""Checks of configuration fields: one line that names the field, the value and what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping


class InputError(ValueError):
    """What the user wrote is wrong: one line names the field or layer, the value and a way out.

    Any other exception is a fault of the program or of code that it runs.

    Attributes:
        field: The field or argument that is wrong, dotted if it is a part of another, with which
            the message then begins; None: not a single one.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    def concerns(self, names: Collection[str]) -> bool:
        """Return whether one of these fields is wrong, or a part of it such as `name.key`."""
        return self.field is not None and re.split(r"[.\[]", self.field)[0] in names

    def below(self, path: str) -> InputError:
        """Return the error of a field as that of the field's owner, `path.field=...`."""
        return InputError(f"{path}.{self}", None if self.field is None else f"{path}.{self.field}")


def one_of(field: str, value: object, allowed: Iterable[object] | Mapping[object, object]) -> None:
    """Raise an InputError that names field, value and choices unless value is one of them."""
    choices = list(allowed)
    if value not in choices:
        raise InputError(
            f"{field}={value!r}: must be one of {', '.join(map(str, choices))}", field=field
        )


def within(field: str, value: float, low: float, high: float, *, open_right: bool = False) -> None:
    """Raise an InputError that names field, value and range unless low <= value <= high."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (open_right and value == high):
        end = ")" if open_right else "]"
        raise InputError(
            f"{field}={value!r}: must be a number in [{low:g}, {high:g}{end}", field=field
        )


def at_least(field: str, value: int, low: int) -> None:
    """Raise an InputError that names field, value and bound unless value is an integer >= low."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise InputError(f"{field}={value!r}: must be an integer of at least {low}", field=field)


def positive(field: str, value: float) -> None:
    """Raise an InputError that names field and value unless value is finite and positive."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise InputError(f"{field}={value!r}: must be a positive number", field=field)
