"""Matrices of tasks by tasks as heat maps: accuracy after each task, and overlap of masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sweeps.figures.sheet import Sheet
from sweeps.results.stats import Floats

MOST_WRITTEN = 10
DARK, LIGHT = "#0d0d0d", "#fafafa"


def accuracy(sheet: Sheet) -> str:
    """Draw the accuracy on each task after each task, a panel for each row."""
    _draw(sheet, ("accuracy_matrix", "matrix"), "after task", "on task")
    return (
        "Accuracy or performance on each task (across) after training on each (down), in percent, "
        "mean over seeds."
    )


def overlap(sheet: Sheet) -> str:
    """Draw the Jaccard overlap of every two tasks' masks, a panel for each row."""
    _draw(sheet, ("overlap",), "task", "task")
    return "Overlap of the masks of every two tasks (Jaccard index, in percent), mean over seeds."


def _draw(sheet: Sheet, keys: Sequence[str], down: str, across: str) -> None:
    jobs = []
    for row in sheet.summary.rows:
        found = [matrix for run in row.runs if (matrix := _matrix(run.named, keys)) is not None]
        sizes = {matrix.shape for matrix in found}
        if len(sizes) == 1:
            jobs.append((row, np.mean(found, axis=0)))
    for row, mean in sheet.limited(jobs):
        count = len(mean)
        several = len(sheet.summary.tasks) > 1
        title = f"{row.task}: {row.label}" if several else row.label
        said = f"last line: {', '.join(f'{100 * value:.1f}' for value in mean[-1])}"
        plot = sheet.panel(f"{title} ({len(row.runs)})", said, height=3.3, right=0.3)
        plot.imshow(100 * mean, cmap="cividis", vmin=0, vmax=100, aspect="auto", origin="upper")
        plot.grid(visible=False)
        for place in np.ndindex(*mean.shape) if count <= MOST_WRITTEN else ():
            if np.isfinite(value := mean[place]):
                colour = LIGHT if value < 0.55 else DARK
                plot.text(
                    place[1],
                    place[0],
                    f"{100 * value:.0f}",
                    color=colour,
                    ha="center",
                    va="center",
                    size=8 if count <= 6 else 6.5,
                )
        ticks = range(0, count, max(1, count // 8))
        plot.set_xticks(ticks, [str(tick + 1) for tick in ticks])
        plot.set_yticks(ticks, [str(tick + 1) for tick in ticks])
        plot.set_xlabel(across)
        plot.set_ylabel(down)


def _matrix(named: Any, keys: Sequence[str]) -> Floats | None:
    """Return a square matrix, nan where a row ends before a task; None if there is none."""
    rows = next((named[key] for key in keys if key in named), None)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        return None
    size = max(len(rows), max(map(len, rows)))
    matrix = np.full((len(rows), size), np.nan)
    for place, row in enumerate(rows):
        matrix[place, : len(row)] = row
    return matrix
