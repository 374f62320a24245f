"""Plots: the report's figures of each task and setting, as SVG text."""

from __future__ import annotations

import io
import re
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from sparse_core.checks import InputError
from sweeps import kinds
from sweeps.axes import DISTRIBUTION, METHOD, text
from sweeps.figures import FIGURES
from sweeps.looks import Draw, Drawn, Group, looks
from sweeps.summary import Row, Summary

STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "sweeps",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.labelsize": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}


@dataclass(frozen=True)
class Panel:
    """One figure of a report.

    Attributes:
        title: Task and setting.
        svg: Its SVG element, which says in words what it shows.
        caption: What is to be seen.
    """

    title: str
    svg: str
    caption: str


def panels(summary: Summary) -> list[Panel]:
    """Draw all figures of each task and setting of the axes other than method and distribution.

    Raises:
        InputError: If a figure of the user's own fails.
    """
    found = FIGURES | {name: _guarded(name) for name in summary.kind.figures}
    return [
        panel
        for group in _groups(summary)
        for name, draw in found.items()
        if (panel := _panel(group, name, draw)) is not None
    ]


def _groups(summary: Summary) -> Iterator[Group]:
    look = looks(summary)
    named = METHOD in summary.axes.telling
    others = [name for name in summary.axes.telling if named and name not in (METHOD, DISTRIBUTION)]
    for task in summary.tasks:
        rows = [row for row in summary.rows if row.task == task]
        for setting in _settings(rows, others):
            chosen = [row for row in rows if _belongs(row, others, setting)]
            title = ", ".join(part for part in (task, *setting) if part) or summary.kind_name
            yield Group(summary, title, [(row, _label(row)) for row in chosen], look)


def _panel(group: Group, name: str, draw: Draw) -> Panel | None:
    with mpl.rc_context(STYLE):
        canvas = Figure(figsize=(12, 4.4), layout="constrained")
        drawn = draw(canvas, group)
        if drawn is None:
            return None
        file = io.StringIO()
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    description = f"{group.title}. {drawn.numbers or drawn.caption}"
    identity = f"{group.summary.kind_name} {group.title} {name}"
    return Panel(group.title, _inline(file.getvalue(), identity, description), drawn.caption)


def _guarded(name: str) -> Draw:
    """Return a figure of the user's own, whose faults are told in one line."""
    draw = kinds.figure(name)

    def guarded(canvas: Figure, group: Group, /) -> Drawn | None:
        try:
            drawn = draw(canvas, group)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"figures={name!r}: failed: {said} ({where.filename}, line {where.lineno}); "
                "results are kept, dst sweep report writes the report again",
                field="figures",
            ) from error
        if drawn is None or isinstance(drawn, Drawn):
            return drawn
        raise InputError(
            f"figures={name!r}: returned a {type(drawn).__name__}, must return a "
            "sweeps.looks.Drawn or None",
            field="figures",
        )

    return guarded


def _settings(rows: Sequence[Row], others: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the settings that get a figure; dense rows stand in those of others if they fit."""
    sparse = [_setting(row, others) for row in rows if not row.baseline]
    dense = [_setting(row, others) for row in rows if row.baseline]
    alone = [base for base in dense if not any(set(base) <= set(setting) for setting in sparse)]
    return list(dict.fromkeys(sparse + alone))


def _belongs(row: Row, others: Sequence[str], setting: tuple[str, ...]) -> bool:
    own = _setting(row, others)
    return set(own) <= set(setting) if row.baseline else own == setting


def _setting(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(text(name, row.values[name]) for name in names if name in row.values)


def _label(row: Row) -> str:
    """Return the row's label without what the title of its figure says."""
    if row.method is None:
        return row.label
    return " ".join(str(row.values[name]) for name in (METHOD, DISTRIBUTION) if name in row.values)


def _inline(svg: str, name: str, description: str) -> str:
    """Return the SVG element alone, its ids made unique in a page that holds several."""
    prefix = re.sub(r"\W+", "-", name).strip("-").lower()
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', element)
    element = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', element)
    element = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", element)
    return element.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
