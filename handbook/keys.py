"""Pages of the kinds of runs: every key of a grid, which is an option of `dst train`, too."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse

from handbook.tables import code, escaped, table
from sweeps.commands.helptext import tables_spelt_out
from sweeps.language.kinds import KINDS, Kind, spec_type

WORDS = {str: "text", int: "integer", float: "number", bool: "true or false"}


def pages() -> Iterator[tuple[str, str]]:
    """Yield path and Markdown of a page for each kind."""
    for name, kind in KINDS.items():
        yield f"reference/kind-{name}.md", page(name, kind)


def page(name: str, kind: Kind) -> str:
    """Return the page of one kind."""
    spec = spec_type(kind.spec)
    summary = (spec.__doc__ or "").strip().partition("\n")[0]
    parts = [
        f"# Kind `{name}`",
        f"{escaped(summary)} A key of the tables stands in a grid under `base` or `grid`, as in "
        f"`sparse.sparsity: [0.8, 0.9]`. On the command line it is an option of "
        f"`dst train {name}`, as in `--sparse.sparsity 0.9`; in Python a field of "
        f"`{kind.spec.replace(':', '.')}`.",
        f"Runs of this kind are compared by: {kind.score}.",
    ]
    with tables_spelt_out(spec):
        for prefix, cls in owners(spec):
            title = "Keys" if not prefix else f"Keys of `{prefix.rstrip('.')}`"
            parts.append(
                f"## {title}\n\n{table(('key', 'value', 'default', 'meaning'), rows(cls, prefix))}"
            )
    return "\n\n".join(parts) + "\n"


def owners(spec: type[Any], prefix: str = "") -> Iterator[tuple[str, type[Any]]]:
    """Yield a spec, and the dataclasses that are fields of it, with the prefix of their keys."""
    yield prefix, spec
    for name, hint in get_type_hints(spec).items():
        for choice in (hint, *get_args(hint)):
            if isinstance(choice, type) and dataclasses.is_dataclass(choice):
                yield from owners(choice, f"{prefix}{name}.")


def rows(cls: type[Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, values, default and meaning of each field of a dataclass."""
    said = {item.arg_name: item.description or "" for item in parse(cls.__doc__ or "").params}
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            continue
        yield (
            code(prefix + field.name),
            allowed(hint),
            code(default(field)),
            escaped(re.sub(r"\s+", " ", said.get(field.name, ""))),
        )


def allowed(hint: Any) -> str:
    """Return in words what values an annotation allows.

    >>> allowed(int | None), allowed(tuple[float, ...])
    ('integer or none', 'list of number')
    """
    if hint is type(None):
        return "none"
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(allowed, inner))
    if origin is tuple:
        return f"list of {allowed(inner[0])}" if inner[1:] == (...,) else "pair"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    return WORDS.get(hint, "text")


def default(field: dataclasses.Field[Any]) -> str:
    """Return a field's default as YAML writes it; empty if it is a collection without items."""
    if field.default_factory is not dataclasses.MISSING:
        return ""
    value = field.default
    if value is dataclasses.MISSING:
        return "must be given"
    if isinstance(value, bool) or value is None:
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)
