"""Learning curves: against the kind's own x, and against measured seconds of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sweeps.figures.bands import band_said, draw_curves
from sweeps.figures.sheet import Sheet
from sweeps.results.stats import Floats
from sweeps.results.summary import Row

SECONDS = "CPU seconds of the run"


def against_steps(sheet: Sheet) -> str:
    """Draw the mean curve of each row, a panel for each task and setting."""
    return _draw(sheet, lambda row: row.curves, sheet.kind.x)


def against_seconds(sheet: Sheet) -> str:
    """Draw the same against the CPU seconds that training took up to each point."""
    return _draw(sheet, _timed, SECONDS)


def _timed(row: Row) -> list[Floats]:
    return [
        np.column_stack([run.seconds, run.curve[:, 1]])
        for run in row.runs
        if run.seconds is not None
    ]


def _draw(sheet: Sheet, curves: Callable[[Row], Sequence[Floats]], x: str) -> str:
    shown: list[Row] = []
    drawn = []
    for part in sheet.parts():
        rows = [(row, label, curves(row)) for row, label in part.rows]
        rows = [item for item in rows if any(len(curve) for curve in item[2])]
        if not rows:
            continue
        said = ", ".join(
            f"{label} {np.mean([curve[-1, 1] for curve in found if len(curve)]):.4g}"
            for _, label, found in rows
        )
        plot = sheet.panel(part.title, f"{sheet.kind.y} at the end: {said}")
        plot.set_xlabel(x)
        plot.set_ylabel(short_name(sheet.kind.y))
        draw_curves(plot, sheet, [(row, found) for row, _, found in rows])
        shown += [row for row, _, _ in rows]
        drawn.append((plot, part))
    sheet.share(x=True)
    sheet.share_scores("y", drawn)
    return f"{_first(sheet.kind.y)} against {x}: mean over seeds, and {band_said(shown)}."


def short_name(text: str) -> str:
    """Return what an axis is, and its unit, where the whole name is long."""
    if len(text) <= 34:
        return text
    unit = " (%)" if text.endswith(" (%)") else ""
    return text.partition(" (")[0].partition(",")[0] + unit


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]
