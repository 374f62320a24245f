"""Markdown tables of generated pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; bars and line breaks in its cells are kept from breaking it.

    On a narrow screen each row is shown as a paragraph (`docs/handbook.css`).
    """
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join(['<div class="rows" markdown>', "", *lines, "", "</div>"])


def cell(text: str) -> str:
    """Return a text as a cell of a table can hold it; code in it stays as it is."""
    return outside_code(
        " ".join(text.split()), lambda part: part.replace("|", r"\|").replace("<", "&lt;")
    )


def code(text: object) -> str:
    """Return a text set as code, or nothing if it is empty."""
    return f"`{text}`" if str(text) else ""


def escaped(text: str) -> str:
    """Return prose of a docstring or a help text without accidental Markdown."""
    return outside_code(text, lambda part: re.sub(r"([*_\[\]])", r"\\\1", part))


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Return a text, changed wherever it is not set as code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else change(part) for part in parts)
