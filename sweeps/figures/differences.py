"""Differences to the dense runs with the same seeds, and which of them chance does not explain."""

from __future__ import annotations

from sweeps.figures.looks import INK
from sweeps.figures.scores import forest, shortened
from sweeps.figures.sheet import Sheet
from sweeps.language.axes import DENSE


def draw(sheet: Sheet) -> str:
    """Draw each paired difference with its interval, a panel for each task and setting."""
    drawn = []
    for part in sheet.parts():
        rows = [(row, label) for row, label in part.rows if row.difference is not None]
        if not rows:
            continue
        said = "; ".join(
            f"{label}: {gap.value:+.4g} [{gap.low:+.4g}, {gap.high:+.4g}], p {gap.p_holm:.3f}"
            for row, label in rows
            if (gap := row.difference) is not None
        )
        names = [
            f"{shortened(label)} ({row.difference.pairs})" for row, label in rows if row.difference
        ]
        plot = forest(sheet, part.title, names, said)
        drawn.append((plot, part))
        plot.axvline(0, color=INK, linewidth=0.9)
        plot.set_xlabel(f"{sheet.kind.score}, less {DENSE}")
        for place, (row, _) in enumerate(rows):
            look, gap = sheet.look(row), row.difference
            assert gap is not None
            plot.hlines(place, gap.low, gap.high, color=look.colour, linewidth=1.8)
            plot.plot(
                [gap.value],
                [place],
                marker=look.marker,
                markersize=6,
                color=look.colour,
                markerfacecolor=look.colour if gap.holds else "none",
                markeredgewidth=1.4,
            )
    sheet.share_scores("x", drawn)
    count = sum(row.difference is not None for row in sheet.summary.rows)
    return (
        f"Difference to the {DENSE} runs with the same seeds: mean and 95% t interval. Filled: "
        f"Student's p is at most 5% after Holm's correction for all {count} differences; "
        "hollow: chance may explain it. The number of pairs is in brackets."
    )
