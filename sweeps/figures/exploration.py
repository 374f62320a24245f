"""Exploration against score: how many weights were ever active (ITOP, Liu et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable

from sweeps.figures.sheet import Sheet
from sweeps.results.facts import Layer


def draw(sheet: Sheet) -> str:
    """Draw a dot for each run, a panel for each task and setting."""
    drawn = []
    for part in sheet.parts():
        rows = [
            (row, [(rate, run.score) for run in row.runs if (rate := explored(run.layers))])
            for row, _ in part.rows
            if not row.baseline
        ]
        rows = [(row, dots) for row, dots in rows if dots]
        if not rows:
            continue
        said = "; ".join(
            f"{sheet.label(row)}: {100 * sum(x for x, _ in dots) / len(dots):.3g}% explored"
            for row, dots in rows
        )
        plot = sheet.panel(part.title, said)
        drawn.append((plot, part))
        for row, dots in rows:
            look = sheet.look(row)
            plot.plot(
                [100 * x for x, _ in dots],
                [y for _, y in dots],
                linestyle="none",
                marker=look.marker,
                markersize=5,
                color=look.colour,
                alpha=0.8,
            )
        plot.set_xlabel("weights that were ever active (%)")
        plot.set_ylabel(sheet.kind.score)
    sheet.share(x=True)
    sheet.share_scores("y", drawn)
    return (
        "Exploration rate against score, a dot for each run: the fraction of the weights of sparse "
        "layers that were active at any time."
    )


def explored(layers: Iterable[Layer]) -> float | None:
    """Return the fraction of weights that were ever active; None if no layer says."""
    known = [layer for layer in layers if layer.explored is not None]
    total = sum(layer.total for layer in known)
    return sum((layer.explored or 0.0) * layer.total for layer in known) / total if total else None
