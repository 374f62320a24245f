"""What `dst tune` searches: ranges and choices of fields, for all cells or for some of them.

    search:
      hyper.learning_rate: {low: 1e-4, high: 1e-2, log: true}
      hyper.batch_size: [32, 64, 128]
      overrides:
        - when: {sparse.method: srigl}
          hyper.learning_rate: {low: 3e-4, high: 3e-2, log: true}

An override takes the place of the fields that it names, in the cells that have the values of
`when`; a field that is null there is not searched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparse_core.checks import InputError
from sweeps.language import spec as specs
from sweeps.language.fields import check_keys, matches, read_fields

RANGE_KEYS = ("low", "high", "log", "form")
DIGITS = 4
"""Significant digits of a number that is searched: what one can report, and type again."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both among them.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Search their logarithms.
        whole: They are integers.
        form: Text with `{}` for the number, such as `lin_{}`; empty: the number itself.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False
    form: str = ""

    def value(self, number: float) -> Any:
        """Return a number of the range as the field has it: rounded to `DIGITS`, in its form."""
        if self.whole:
            found: float = round(number)
        else:
            found = min(max(float(f"{number:.{DIGITS}g}"), self.low), self.high)
        return self.form.format(f"{found:g}" if not self.whole else found) if self.form else found

    def ends(self) -> list[Any]:
        """Return the values at both ends."""
        return [self.value(self.low), self.value(self.high)]

    def place(self, number: float) -> float:
        """Return where a number of the range lies: 0 at its low end, 1 at the high one."""
        low, high, here = (math.log(n) if self.log else n for n in (self.low, self.high, number))
        return (here - low) / (high - low)


@dataclass(frozen=True)
class Choices:
    """Values of any type.

    Attributes:
        values: They, each once.
    """

    values: tuple[Any, ...]

    @property
    def texts(self) -> list[str]:
        """Each as a text of its own, for a sampler to choose from."""
        return [json.dumps(value, default=str) for value in self.values]

    def ends(self) -> list[Any]:
        """Return all values."""
        return list(self.values)


Space = Range | Choices


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        fields: The space of each field, by dotted name.
        overrides: Fields of some cells only: what these have, and the spaces there, None for none.
    """

    fields: Mapping[str, Space]
    overrides: Sequence[tuple[Mapping[str, Any], Mapping[str, Space | None]]] = field(
        default_factory=tuple
    )

    @property
    def names(self) -> list[str]:
        """Every field that is searched in any cell."""
        return list(dict.fromkeys([*self.fields, *(n for _, over in self.overrides for n in over)]))

    def of(self, spec_type: type[Any], cell: Mapping[str, Any]) -> dict[str, Space]:
        """Return the space of each field that is searched in a cell.

        Args:
            spec_type: The class of its spec.
            cell: Its fields, dotted.
        """
        found: dict[str, Space | None] = dict(self.fields)
        for when, over in self.overrides:
            if matches(spec_type, cell, when):
                found |= over
        return {name: space for name, space in found.items() if space is not None}


def read_search(values: Any, spec_type: type[Any]) -> Search:
    """Read a `search` block.

    Raises:
        InputError: If a field is unknown, a range upside down, or a value of another type.
    """
    if not isinstance(values, dict) or not {*values} - {"overrides"}:
        raise InputError(
            f"search={values!r}: must be a mapping of fields to ranges or lists", field="search"
        )
    fields = {name: value for name, value in values.items() if name != "overrides"}
    overrides = values.get("overrides", [])
    if not isinstance(overrides, list) or not all(isinstance(over, dict) for over in overrides):
        raise InputError(
            f"search.overrides={overrides!r}: must be a list of mappings with 'when' and fields",
            field="search.overrides",
        )
    return Search(
        _spaces(fields, spec_type, "search"),
        tuple(_override(over, spec_type) for over in overrides),
    )


def _override(
    values: Mapping[str, Any], spec_type: type[Any]
) -> tuple[Mapping[str, Any], Mapping[str, Space | None]]:
    section = "search.overrides"
    when = values.get("when")
    if not when:
        raise InputError(f"{section}.when={when!r}: must be a mapping of fields to values")
    fields = {name: value for name, value in values.items() if name != "when"}
    given = {name: value for name, value in fields.items() if value is not None}
    none = {name: None for name in fields if name not in given}
    return read_fields(spec_type, when, f"{section}.when"), {
        **_spaces(given, spec_type, section),
        **none,
    }


def _spaces(fields: Mapping[Any, Any], spec_type: type[Any], section: str) -> dict[str, Space]:
    spaces = {}
    for name, value in fields.items():
        path = f"{section}.{name}"
        if isinstance(value, list):
            space: Space = _choices(path, value)
        elif isinstance(value, dict):
            space = _range(path, value, specs.annotation(spec_type, str(name)) is int)
        else:
            raise InputError(
                f"{path}={value!r}: must be a range such as {{low: 1, high: 2}}, or a list",
                field=path,
            )
        read = [read_fields(spec_type, {name: end}, section)[name] for end in space.ends()]
        spaces[str(name)] = Choices(tuple(read)) if isinstance(space, Choices) else space
    return spaces


def _choices(path: str, values: list[Any]) -> Choices:
    texts = {json.dumps(value, default=str) for value in values}
    if len(texts) < max(2, len(values)):
        raise InputError(
            f"{path}={values!r}: must be a list of at least two different values", path
        )
    return Choices(tuple(values))


def _range(path: str, values: Mapping[Any, Any], whole: bool) -> Range:
    try:
        check_keys(values, RANGE_KEYS)
    except InputError as error:
        raise error.below(path) from error
    low, high = (_number(path, key, values) for key in ("low", "high"))
    if not low < high:
        raise InputError(f"{path}: low={low:g} must be less than high={high:g}", field=path)
    log, form = values.get("log", False), values.get("form", "")
    if not isinstance(log, bool):
        raise InputError(f"{path}.log={log!r}: must be true or false", field=path)
    if log and low <= 0:
        raise InputError(f"{path}.low={low:g}: must be positive where log is true", field=path)
    if not isinstance(form, str) or (form and form.count("{}") != 1):
        raise InputError(f"{path}.form={form!r}: must be text with {{}} for the number", field=path)
    integers = whole or all(isinstance(values[key], int) for key in ("low", "high"))
    if integers and not (low.is_integer() and high.is_integer()):
        raise InputError(f"{path}: low={low:g} and high={high:g} must be integers", field=path)
    return Range(low, high, log, integers, form)


def _number(path: str, key: str, values: Mapping[Any, Any]) -> float:
    value = values.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise InputError(f"{path}.{key}={value!r}: must be a number", field=f"{path}.{key}")
