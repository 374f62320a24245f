"""Help texts that name all values: where a docstring names a table, its names are put in."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import re
from collections.abc import Collection, Iterator
from typing import Any, get_args, get_type_hints

TABLE = re.compile(r"`(?:(?P<module>\w+(?:\.\w+)+)\.)?(?P<name>[A-Z][A-Z_]+)`")

CONTINUED = re.compile(r"\n {8,}(?=\S)")
"""Where an attribute's text goes on in the next line, which a help text breaks anew."""


@contextlib.contextmanager
def tables_spelt_out(cls: type[Any]) -> Iterator[None]:
    """Let the docstrings of a dataclass, and of those in it, name what their tables hold.

    "One of `METHODS`" becomes "One of `dense`, `static`, ...", if the module of the class has a
    collection of that name; "`package.module.TABLE`" is looked for in that module.
    """
    classes = list(_dataclasses(cls))
    before = [found.__doc__ for found in classes]
    for found in classes:
        running = CONTINUED.sub(" ", inspect.cleandoc(found.__doc__ or ""))
        found.__doc__ = spelt_out(running, found.__module__)
    try:
        yield
    finally:
        for found, text in zip(classes, before, strict=True):
            found.__doc__ = text


def spelt_out(text: str, module: str) -> str:
    """Return a text with the names in its tables, which are those of a module unless it says."""

    def names(match: re.Match[str]) -> str:
        table = getattr(importlib.import_module(match["module"] or module), match["name"], None)
        if not isinstance(table, Collection) or isinstance(table, str):
            return match[0]
        return ", ".join(f"`{name}`" for name in table)

    return TABLE.sub(names, text)


def _dataclasses(cls: type[Any]) -> Iterator[type[Any]]:
    yield cls
    for hint in get_type_hints(cls).values():
        for choice in (hint, *get_args(hint)):
            if isinstance(choice, type) and dataclasses.is_dataclass(choice):
                yield from _dataclasses(choice)
