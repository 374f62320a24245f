"""Continual reinforcement learning by task and time: how each task of a sequence was learnt."""

from __future__ import annotations

import numpy as np

from sweeps.figures.bands import band_said, draw_curves
from sweeps.figures.sheet import Sheet
from sweeps.results.stats import Floats
from sweeps.results.summary import Row
from sweeps.store.validity import is_curve


def draw(sheet: Sheet) -> str:
    """Draw the performance on each task while it was learnt, a panel for each task of a part."""
    jobs = []
    for part in sheet.parts():
        count = max((len(_curves(row, None)) for row, _ in part.rows), default=0)
        jobs += [(part, task) for task in range(count)]
    drawn = []
    for part, task in sheet.limited(jobs):
        rows = [(row, found) for row, _ in part.rows if (found := _curves(row, task))]
        plot = sheet.panel(f"Task {task + 1}: {part.title}")
        drawn.append(plot)
        ends = draw_curves(plot, sheet, rows)
        plot.set_xlabel("environment steps of this task")
        plot.set_ylabel("performance (%)")
        said = ", ".join(f"{sheet.label(row)} {value:.3g}" for row, value in ends)
        sheet.say(f"at its end: {said}")
    sheet.share(y=True, panels=drawn)
    return (
        "Performance on each task of the sequence while it was learnt: mean over seeds, and "
        f"{band_said(sheet.shown)}."
    )


def _curves(row: Row, task: int | None) -> list[Floats]:
    """Return a task's curve of each run; None: every task's curve of one run."""
    found = [run.named.get("curves") for run in row.runs]
    known = [curves for curves in found if isinstance(curves, list) and all(map(is_curve, curves))]
    if task is None:
        return [np.empty((0, 2)) for _ in max(known, key=len, default=[])]
    return [
        np.asarray(curves[task], dtype=float).reshape(-1, 2) * [1.0, 100.0]
        for curves in known
        if task < len(curves)
    ]
