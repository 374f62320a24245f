"""Markdown tables of generated pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; bars and line breaks in its cells are kept from breaking it."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return a text as a cell of a table can hold it."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def code(text: object) -> str:
    """Return a text set as code, or nothing if it is empty."""
    return f"`{text}`" if str(text) else ""


def escaped(text: str) -> str:
    """Return prose of a docstring or a help text without accidental Markdown."""
    outside = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*_\[\]])", r"\\\1", part) for part in outside
    )
