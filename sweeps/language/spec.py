"""Specs: frozen dataclasses read strictly from plain mappings, and hashed by what they say.

`run_id = sha256(kind, seed, fields that differ from their defaults)[:12]`, taken of the canonical
spec, and with it, where it names modules or files of the user's, of their hashes. A field that is
added later with a default therefore leaves the identity of earlier runs alone. A default that was
changed would not: a class names the first one in `FIRST_DEFAULTS`, by field, and ids are taken
against that.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sparse_core.checks import InputError
from sweeps.language import hooks

T = TypeVar("T")

_HINTS: dict[type[Any], dict[str, Any]] = {}
_FIELDS: dict[type[Any], tuple[dataclasses.Field[Any], ...]] = {}


def load(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass from a mapping, strictly and by annotation.

    Keys may be nested (`{"sparse": {"method": "set"}}`) or dotted (`{"sparse.method": "set"}`).
    Values are coerced where nothing is lost: `"1e-3"` and `1` to a float, `1e5` to an integer,
    lists to tuples.

    Args:
        cls: A dataclass; its fields may be dataclasses again.
        values: Field values; what is absent keeps its default.

    A class with a method `expand` puts values of its own beneath those that are given (presets).

    Raises:
        InputError: On an unknown key, a value of another type, or one that the dataclass refuses.
    """
    tree = nest(values)
    presets = hooks.presets_of(cls)
    if presets is not None:
        try:
            tree = presets.expand(tree)
        except ValueError as error:
            raise _located(cls, "", error) from error
    return typing.cast(T, _build(cls, tree, None, ""))


def nest(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn dotted keys into nested mappings; a key that is given twice is an InputError."""
    tree: dict[str, Any] = {}
    for name, value in flatten(values).items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise InputError(f"{name}: given twice, whole and in part", field=name)
        if leaf in node:
            raise InputError(f"{name}: given twice, whole and in part", field=name)
        node[leaf] = dict(value) if isinstance(value, Mapping) else value
    return tree


def flatten(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into dotted keys: `{"a": {"b": 1}}` into `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(key, str):
            raise InputError(f"{prefix}{key!r}: a key must be text (quote it)")
        inner = flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else None
        for name, item in (inner if inner is not None else {prefix + key: value}).items():
            if name in flat:
                raise InputError(f"{name}: given twice", field=name)
            flat[name] = item
    return flat


def plain(spec: Any) -> dict[str, Any]:
    """Return all fields as JSON can hold them; `load` turns it back into an equal spec."""
    return {field.name: _plain(getattr(spec, field.name)) for field in _fields(type(spec))}


def in_force(spec: Any) -> dict[str, Any]:
    """Return, by dotted name, what is in force where a spec's fields say None.

    A dataclass whose canonical form has None for what a run does by itself says what that is in a
    method `in_force`; a value None means that the field plays no part in this run.
    """
    found: dict[str, Any] = {}
    for field in _fields(type(spec)):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            inner = in_force(value)
            found |= {f"{field.name}.{name}": item for name, item in inner.items()}
    return found | dict(spec.in_force()) if isinstance(spec, hooks.InForce) else found


def shown(spec: Any) -> dict[str, Any]:
    """Return all fields by dotted name as a reader is shown them: with what is in force."""
    return flatten(plain(spec)) | in_force(spec)


def delta(spec: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults, nested and as JSON can hold them."""
    return _delta(spec, {field.name: _default(field) for field in _fields(type(spec))})


def canonical(spec: T) -> T:
    """Return the spec's own canonical form: whatever plays no part in the run at its default."""
    return spec.canonical() if isinstance(spec, hooks.Canonical) else spec


def run_id(kind: str, spec: Any, sources: Mapping[str, str] | None = None) -> str:
    """Return the identity of a run: 12 hexadecimal digits of what its canonical spec says.

    Args:
        kind: Name of its kind.
        spec: What is run.
        sources: Hashes of the user's own modules and files, see `sweeps.language.sources`.
    """
    return identity(kind, spec.seed, changed(canonical(spec)), sources)


def identity(
    kind: str, seed: int, changed: Mapping[str, Any], sources: Mapping[str, str] | None
) -> str:
    """Return `run_id` of the spec of which `changed` said this."""
    content: dict[str, Any] = {"kind": kind, "seed": seed, "spec": changed}
    if sources:
        content["sources"] = dict(sources)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def changed(spec: Any) -> dict[str, Any]:
    """Return the fields that differ from their first defaults, of which identities are taken."""
    return _delta(spec, first_defaults(type(spec)))


def first_defaults(cls: type[Any]) -> dict[str, Any]:
    """Return the defaults that fields had when the first runs were named."""
    return {field.name: _default(field) for field in _fields(cls)} | dict(hooks.first_defaults(cls))


def default(cls: type[Any], name: str) -> Any:
    """Return the default of the field with this dotted name, or else a marker equal to nothing."""
    head, *rest = name.split(".")
    value = _default_of(cls, head)
    for part in rest:
        if isinstance(value, Mapping):
            value = value.get(part, _Missing)
        else:
            value = getattr(value, part, _Missing)
    return value


def annotation(cls: type[Any], name: str) -> Any:
    """Return the annotation of the field with this dotted name; None if there is no such field."""
    head, _, rest = name.partition(".")
    if head not in {field.name for field in _fields(cls)}:
        return None
    found = _hints(cls)[head]
    nested = _dataclass_in(found)
    return found if not rest else annotation(nested, rest) if nested else None


def coerce_field(cls: type[Any], name: str, value: Any) -> Any:
    """Coerce one value to the type of the field with this dotted name.

    Raises:
        InputError: If there is no such field or the value does not fit it.
    """
    head, _, rest = name.partition(".")
    annotation = _annotation(cls, head, "")
    nested = _dataclass_in(annotation)
    if rest and nested is not None:
        try:
            return coerce_field(nested, rest, value)
        except InputError as error:
            raise error.below(head) from None
    if rest:
        if not _is_mapping(annotation):
            raise InputError(f"{name}: unknown key; {head!r} has no fields", field=name)
        return value
    return _coerce(annotation, value, name, _Missing)


def unknown(name: str, allowed: Iterable[str], what: str = "key") -> str:
    """Say that a name is unknown, with the names it may have been meant to be."""
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=2)
    if close:
        return f"unknown {what}; did you mean {' or '.join(map(repr, close))}?"
    return f"unknown {what}; allowed: {', '.join(names)}"


class _Missing:
    """Marks a field without a default."""


def _build(cls: type[Any], values: Mapping[str, Any], base: Any, path: str) -> Any:
    changes: dict[str, Any] = {}
    for name, value in values.items():
        annotation = _annotation(cls, name, path)
        default = _default_of(cls, name) if base is None else getattr(base, name)
        changes[name] = _coerce(annotation, value, path + name, default)
    if base is None:
        for field in _fields(cls):
            if field.name not in changes and _default(field) is _Missing:
                name = path + field.name
                raise InputError(f"{name}: missing, it has no default", field=name)
    try:
        return cls(**changes) if base is None else dataclasses.replace(base, **changes)
    except ValueError as error:
        raise _located(cls, path.removesuffix("."), error) from error


def _located(cls: type[Any], path: str, error: ValueError) -> InputError:
    """Return what a dataclass at this path refused, as an error of the whole spec."""
    refusal = InputError(" ".join(str(error).split()), getattr(error, "field", None))
    if not path:
        return refusal
    if refusal.concerns([field.name for field in _fields(cls)]):
        return refusal.below(path)
    return InputError(f"{path}: {refusal}", field=path)


def _coerce(annotation: Any, value: Any, path: str, default: Any) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(arguments, value, path, default)
    if origin is typing.Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise _refused(path, value, f"one of {', '.join(map(str, arguments))}")
        return value
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        if isinstance(value, annotation):
            return value
        if not isinstance(value, Mapping):
            raise _refused(path, value, "a mapping of fields")
        base = default if isinstance(default, annotation) else None
        return _build(annotation, nest(value), base, f"{path}.")
    if _is_mapping(annotation):
        return _coerce_mapping(arguments, value, path)
    if origin in (tuple, list, Sequence) or annotation in (tuple, list):
        return _coerce_sequence(origin or annotation, arguments, value, path)
    return _coerce_scalar(annotation, value, path)


def _coerce_union(choices: tuple[Any, ...], value: Any, path: str, default: Any) -> Any:
    if value is None and type(None) in choices:
        return None
    choices = tuple(choice for choice in choices if choice is not type(None))
    for choice in sorted(choices, key=lambda choice: choice is not type(value)):
        try:
            return _coerce(choice, value, path, default)
        except InputError as error:
            if len(choices) == 1:
                raise
            failure = error
    names = " or ".join(getattr(choice, "__name__", str(choice)) for choice in choices)
    raise _refused(path, value, names) from failure


def _coerce_mapping(arguments: tuple[Any, ...], value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused(path, value, "a mapping")
    item_type = arguments[1] if arguments else Any
    return {
        str(key): _coerce(item_type, item, f"{path}.{key}", _Missing) for key, item in value.items()
    }


def _coerce_sequence(kind: Any, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _refused(path, value, "a list")
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise _refused(path, value, f"a list of {len(arguments)}")
        item_types = arguments
    else:
        item_types = (arguments[0] if arguments else Any,) * len(value)
    items = [
        _coerce(item_type, item, f"{path}[{index}]", _Missing)
        for index, (item_type, item) in enumerate(zip(item_types, value, strict=True))
    ]
    return items if kind is list else tuple(items)


def _coerce_scalar(annotation: Any, value: Any, path: str) -> Any:
    if annotation is float:
        number = _number(value)
        if number is None or math.isnan(number):
            raise _refused(path, value, "a number")
        return number
    if annotation is int:
        number = _number(value)
        if number is None or not math.isfinite(number) or number != int(number):
            raise _refused(path, value, "an integer")
        return value if isinstance(value, int) else int(number)
    if annotation is Path and isinstance(value, (str, Path)):
        return Path(value)
    if isinstance(annotation, type) and isinstance(value, annotation):
        return value
    names = {str: "text", bool: "true or false", type(None): "null"}
    raise _refused(path, value, names.get(annotation, getattr(annotation, "__name__", "another")))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _refused(path: str, value: Any, expected: str) -> InputError:
    return InputError(f"{path}={value!r}: must be {expected}", field=path)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value


def _delta(spec: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, default in defaults.items():
        value = getattr(spec, name)
        if value == default:
            continue
        if dataclasses.is_dataclass(value) and type(value) is type(default):
            fields = _fields(type(value))
            changed[name] = _delta(
                value, {item.name: getattr(default, item.name) for item in fields}
            )
        else:
            changed[name] = _plain(value)
    return changed


def _annotation(cls: type[Any], name: str, path: str) -> Any:
    names = [field.name for field in _fields(cls)]
    if name not in names:
        raise InputError(f"{path}{name}: {unknown(name, names)}", field=path + name)
    return _hints(cls)[name]


def _hints(cls: type[Any]) -> dict[str, Any]:
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls)
    return _HINTS[cls]


def _fields(cls: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    if cls not in _FIELDS:
        _FIELDS[cls] = tuple(field for field in dataclasses.fields(cls) if field.init)
    return _FIELDS[cls]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return _Missing if field.default_factory is dataclasses.MISSING else field.default_factory()


def _default_of(cls: type[Any], name: str) -> Any:
    return next(_default(field) for field in _fields(cls) if field.name == name)


def _dataclass_in(annotation: Any) -> type[Any] | None:
    for choice in (annotation, *typing.get_args(annotation)):
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            return choice
    return None


def _is_mapping(annotation: Any) -> bool:
    kind = typing.get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Mapping)
