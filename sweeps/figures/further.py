"""The kind's further curves, such as dormant neurons or churn: a panel for each that a run has."""

from __future__ import annotations

from sweeps.figures.bands import band_said, draw_curves
from sweeps.figures.sheet import Sheet


def draw(sheet: Sheet) -> str:
    """Draw the mean of each quantity, a panel for each task, setting and quantity."""
    there = [
        (part, key, title, x[0] if x else sheet.kind.x)
        for part in sheet.parts()
        for key, title, *x in sheet.kind.panels
        if any(row.panel(key) for row, _ in part.rows)
    ]
    for part, key, title, x in sheet.limited(there):
        rows = [(row, row.panel(key)) for row, _ in part.rows if row.panel(key)]
        plot = sheet.panel(f"{title}: {part.title}")
        plot.set_xlabel(x)
        ends = draw_curves(plot, sheet, rows)
        said = ", ".join(f"{sheet.label(row)} {value:.3g}" for row, value in ends)
        sheet.say(f"last value: {said}")
    return f"Quantities measured while runs trained: mean over seeds, and {band_said(sheet.shown)}."
