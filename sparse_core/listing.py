"""All that can be named in a configuration, each with one line about it and its source.

Nothing is imported: a rule's line is the first of its docstring, read from the source.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparse_core.checks import one_of
from sparse_core.registry import DISTRIBUTIONS, DROP_RULES, GROWTH_RULES, METHODS

KINDS = ("methods", "growth", "drop", "distributions")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Entry:
    """One thing that has a name.

    Attributes:
        name: What a configuration calls it.
        summary: What it does, in one line.
        source: Where it is, `package.module:NAME`.
    """

    name: str
    summary: str
    source: str


def described(kind: str) -> list[Entry]:
    """Return all that has a name, in the order of the registry.

    Args:
        kind: One of `KINDS`.

    Raises:
        InputError: If there is no such kind.
    """
    one_of("kind", kind, KINDS)
    if kind == "methods":
        home = "sparse_core.registry:METHODS"
        return [Entry(n, m.summary, _place(m.updater) or home) for n, m in METHODS.items()]
    sources: dict[str, Mapping[str, str]] = {
        "growth": GROWTH_RULES,
        "drop": DROP_RULES,
        "distributions": DISTRIBUTIONS,
    }
    return [Entry(name, first_line(source), source) for name, source in sources[kind].items()]


def _place(updater: str | type | None) -> str | None:
    if isinstance(updater, type):
        return f"{updater.__module__}:{updater.__qualname__}"
    return updater


def first_line(source: str) -> str:
    """Return the first line of the docstring of a function or class of ours; empty if it has none.

    Args:
        source: `package.module:NAME`, of a module in a package beside this one.
    """
    module, _, name = source.partition(":")
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""
