"""Fields of a spec as a grid's file gives them: dotted or nested names and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparse_core.checks import InputError
from sweeps.language import spec as specs
from sweeps.language.spec import unknown


def read_fields(spec_type: type[Any], values: Any, section: str) -> dict[str, Any]:
    """Return dotted fields and coerced values.

    Args:
        spec_type: The class of the spec.
        values: What the file says.
        section: The part of the file that says it.

    Raises:
        InputError: That names the section and the field, if it is none or its value does not fit.
    """
    if not isinstance(values, dict):
        raise InputError(
            f"{section}={values!r}: must be a mapping of fields to values", field=section
        )
    if "seed" in values:
        raise InputError(f"{section}.seed: give 'seeds' of the block instead")
    try:
        flat = specs.flatten(values)
        return {name: specs.coerce_field(spec_type, name, flat[name]) for name in flat}
    except InputError as error:
        raise error.below(section) from error


def read_entries(spec_type: type[Any], values: Any, section: str) -> list[dict[str, Any]]:
    """Return each mapping of a list as `read_fields` does; none of them may be empty.

    Raises:
        InputError: That names the section and the field.
    """
    if not isinstance(values, list) or not all(entry for entry in values):
        raise InputError(
            f"{section}={values!r}: must be a list of mappings of fields to values", field=section
        )
    return [read_fields(spec_type, entry, section) for entry in values]


def matches(spec_type: type[Any], values: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Return whether fields have the values of an entry; what is not given has its default."""
    return all(
        (values[name] if name in values else specs.default(spec_type, name)) == wanted
        for name, wanted in entry.items()
    )


def check_keys(values: Mapping[Any, Any], allowed: tuple[str, ...]) -> None:
    """Raise an InputError about a key that is not among these."""
    for key in values:
        if key not in allowed:
            raise InputError(f"{key}: {unknown(str(key), allowed)}")


def read_seeds(field: str, value: Any, *, number: bool = True) -> Sequence[int]:
    """Return seeds, given as a list or, where `number` is true, as how many from 0.

    Raises:
        InputError: If they are neither.
    """
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if is_number and number:
        return range(value)
    is_list = isinstance(value, list) and bool(value)
    if is_list and all(type(seed) is int and seed >= 0 for seed in value):
        return tuple(dict.fromkeys(value))
    must = "a number of at least 1, or a list of seeds >= 0" if number else "a list of seeds >= 0"
    raise InputError(f"{field}={value!r}: must be {must}", field=field)
