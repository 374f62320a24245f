"""Checks of configuration fields: one line that names the field, the value and what is allowed."""

from __future__ import annotations

import math
import numbers
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


def whole(field: str, value: object, low: int) -> int:
    """Return an integer of any library, NumPy's too, as a Python one.

    Raises:
        InputError: That names field, value and bound unless it is an integer >= low.
    """
    number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    at_least(field, int(value) if number else value, low)  # type: ignore[call-overload, arg-type]
    return int(value)  # type: ignore[call-overload, no-any-return]


def positive_float(field: str, value: object) -> float:
    """Return a number of any library, NumPy's too, as a Python float.

    Raises:
        InputError: That names field and value unless it is finite and positive.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    positive(field, float(value) if number else value)  # type: ignore[arg-type]
    return float(value)  # type: ignore[arg-type]


def fraction(field: str, value: object) -> float:
    """Return a number in [0, 1) of any library, NumPy's too, as a Python float.

    Raises:
        InputError: That names field and value if it is none.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    within(field, float(value) if number else value, 0, 1, open_right=True)  # type: ignore[arg-type]
    return float(value)  # type: ignore[arg-type]


def permutation(field: str, value: object, size: int) -> tuple[int, ...]:
    """Return an order of 0 to size - 1, NumPy's too, as a tuple of Python integers.

    Raises:
        InputError: That names field and value unless each of them is in it once.
    """
    given = list(value) if isinstance(value, Iterable) else []
    known = all(isinstance(i, numbers.Integral) and not isinstance(i, bool) for i in given)
    if not known or sorted(given) != list(range(size)):
        raise InputError(f"{field}={value!r}: must be 0 to {size - 1} in some order", field=field)
    return tuple(map(int, given))
