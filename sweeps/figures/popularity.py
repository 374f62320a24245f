"""Active entries of users' and items' vectors against how often they occur in training."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter

from sweeps.figures.sheet import Sheet
from sweeps.results.stats import Floats
from sweeps.results.summary import Row

WHO = {"items": "an item", "users": "a user"}


def draw(sheet: Sheet) -> str:
    """Draw the mean of each row, a panel for users and items of each task and setting."""
    jobs = [(part, who) for who in WHO for part in sheet.parts()]
    there = [
        (part, who) for part, who in jobs if any(_curve(row, who).size for row, _ in part.rows)
    ]
    for part, who in sheet.limited(there):
        plot, said = sheet.panel(f"{who}: {part.title}"), []
        for row, _ in part.rows:
            curve = _curve(row, who)
            if not curve.size:
                continue
            look = sheet.look(row)
            plot.plot(*curve.T, color=look.colour, marker=look.marker, markersize=3, linewidth=1.2)
            ends = (f"{entries:.3g} at {pairs:.4g}" for pairs, entries in curve[[0, -1]])
            said.append(f"{sheet.label(row)} {', '.join(ends)} pairs")
        sheet.say("; ".join(said))
        plot.set_xscale("symlog", linthresh=1)
        plot.xaxis.set_major_formatter(EngFormatter(sep=""))
        plot.set_ylim(bottom=0)
        plot.set_xlabel(f"training pairs of {WHO[who]} (logarithmic)")
        plot.set_ylabel(f"active entries of {WHO[who]}")
    return (
        "Active entries of vectors at the end of training against popularity, mean over vectors of "
        "like popularity and over seeds."
    )


def _curve(row: Row, who: str) -> Floats:
    """Return the mean over runs, `(points, 2)`; empty where tables are dense."""
    found: list[Any] = [run.named.get("entries") or {} for run in row.runs]
    curves = [np.array(entries[who], float) for entries in found if entries.get(who)]
    if not curves:
        return np.empty((0, 2))
    x = curves[0][:, 0]
    mean = np.mean([np.interp(x, curve[:, 0], curve[:, 1]) for curve in curves], axis=0)
    return np.stack([x, mean], 1)
