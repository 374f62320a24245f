"""Scores against an axis of numbers: sparsity above all, and others such as widths or rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sweeps.figures.looks import INK, is_numeric, values_of
from sweeps.figures.scores import room, spelt, ways
from sweeps.figures.sheet import Part, Sheet
from sweeps.language.axes import short
from sweeps.results.summary import Row

SPARSITY = "sparse.sparsity"
DODGE = 0.3


def against_sparsity(sheet: Sheet) -> str:
    """Draw scores against the sparsity asked for, a panel for each task and other setting."""
    if SPARSITY in sheet.channels.panel and is_numeric(sheet.summary.rows, SPARSITY):
        _draw(sheet, SPARSITY)
    return _caption(sheet, "sparsity")


def against_others(sheet: Sheet) -> str:
    """Draw scores against each other axis that has numbers."""
    names = [
        name
        for name in sheet.channels.panel
        if name != SPARSITY and is_numeric(sheet.summary.rows, name)
    ]
    for name in names:
        _draw(sheet, name)
    return _caption(sheet, " and ".join(map(short, names)))


def _caption(sheet: Sheet, axis: str) -> str:
    found = ways([(row, "") for row in sheet.shown])
    return (
        f"{sheet.kind.score[:1].upper()}{sheet.kind.score[1:]} against {axis}: {found} over seeds "
        "with its 95% interval, small dots are single runs; places are evenly spaced."
        + (" The dashed line is dense." if any(row.baseline for row in sheet.shown) else "")
    )


def _draw(sheet: Sheet, axis: str) -> None:
    ticks = sorted(values_of(sheet.summary.rows, axis))
    drawn = []
    for part in sheet.parts(axis):
        lines = _lines(sheet, part, axis)
        said = "; ".join(
            f"{label}: "
            + ", ".join(f"{_tick(axis, row.values[axis])} {spelt(row)}" for row in rows)
            for label, rows in lines
        )
        if not said:
            continue
        plot = sheet.panel(part.title, said)
        drawn.append((plot, part))
        for index, (_, rows) in enumerate(lines):
            look = sheet.look(rows[0])
            shift = DODGE * ((index + 0.5) / len(lines) - 0.5)
            x = np.array([ticks.index(row.values[axis]) for row in rows]) + shift
            y = [row.estimate.value for row in rows if row.estimate is not None]
            for place, row in zip(x, rows, strict=True):
                assert row.estimate is not None
                plot.plot(
                    [place] * len(row.scores), row.scores, ".", color=look.colour, ms=3, alpha=0.5
                )
                if (found := row.estimate.interval) is not None:
                    plot.vlines(place, found.low, found.high, color=look.colour, linewidth=1.1)
            plot.plot(
                x,
                y,
                color=look.colour,
                linestyle=look.line,
                linewidth=1.5,
                marker=look.marker,
                markersize=4,
            )
        for row, _ in part.rows:
            if row.baseline and row.estimate is not None and axis not in row.values:
                sheet.look(row)
                plot.axhline(row.estimate.value, color=INK, linewidth=1.1, linestyle=(0, (5, 2)))
        plot.set_ylim(*room(score for row, _ in part.rows for score in row.scores))
        plot.set_xticks(range(len(ticks)), [_tick(axis, tick) for tick in ticks])
        plot.set_xlim(-0.5, len(ticks) - 0.5)
        plot.set_xlabel(short(axis))
        plot.set_ylabel(sheet.kind.score)
    sheet.share_scores("y", drawn)


def _lines(sheet: Sheet, part: Part, axis: str) -> list[tuple[str, Sequence[Row]]]:
    """Return the rows of each line by their place on the axis; those without a result left out."""
    found: dict[str, list[Row]] = {}
    for row, label in part.rows:
        if axis in row.values and row.estimate is not None:
            found.setdefault(label, []).append(row)
    return [
        (label, sorted(rows, key=lambda row: float(row.values[axis])))
        for label, rows in found.items()
    ]


def _tick(axis: str, value: Any) -> str:
    return f"{100 * value:g}%" if axis == SPARSITY else f"{value:g}"
