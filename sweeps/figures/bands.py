"""Curves of several runs as one line: on common points, with what lies around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.ticker import EngFormatter, MaxNLocator
from scipy.special import stdtrit

from sweeps.figures.sheet import Sheet
from sweeps.results.estimates import FEW_LEVEL, MANY
from sweeps.results.stats import Floats
from sweeps.results.summary import Row

FEW_POINTS = 12
MOST_POINTS = 150
DODGE = 0.3


def common_curve(curves: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Put curves on common points: all points of any of them within the range of all of them.

    Args:
        curves: Each `(points, 2)`, x ascending; empty ones are left out.

    Returns:
        x `(points,)` and y `(runs, points)`, linearly interpolated where a curve lacks a point.
    """
    filled = [curve for curve in curves if len(curve)]
    if not filled:
        return np.empty(0), np.empty((0, 0))
    low, high = max(curve[0, 0] for curve in filled), min(curve[-1, 0] for curve in filled)
    x = np.unique(np.concatenate([curve[:, 0] for curve in filled]))
    x = x[(x >= low) & (x <= high)]
    if len(x) > MOST_POINTS:
        x = x[np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int)]
    return x, np.array([np.interp(x, curve[:, 0], curve[:, 1]) for curve in filled])


def band(y: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean at each point, and the range of few runs or the t interval of many.

    Args:
        y: `(runs, points)`.

    Returns:
        Mean, lower and upper end, each `(points,)`.
    """
    middle = y.mean(axis=0)
    if len(y) < MANY:
        return middle, y.min(axis=0), y.max(axis=0)
    half = y.std(axis=0, ddof=1) / len(y) ** 0.5 * stdtrit(len(y) - 1, 0.5 + FEW_LEVEL / 2)
    return middle, middle - half, middle + half


def band_said(rows: Sequence[Row]) -> str:
    """Say what `band` returns for these rows."""
    few = any(0 < len(row.runs) < MANY for row in rows)
    many = any(len(row.runs) >= MANY for row in rows)
    if few and many:
        return "the range of runs, from ten seeds on a 95% interval of the mean"
    return "a 95% interval of the mean" if many else "the range of runs"


def draw_curves(
    plot: Plot, sheet: Sheet, rows: Sequence[tuple[Row, Sequence[Floats]]]
) -> list[tuple[Row, float]]:
    """Draw the mean curve of each row with its band; return the last mean of each."""
    whole, ends = True, []
    for index, (row, curves) in enumerate(rows):
        x, y = common_curve(curves)
        if not len(x):
            continue
        whole = whole and bool((x == np.round(x)).all())
        look = sheet.look(row)
        middle, low, high = band(y)
        ends.append((row, float(middle[-1])))
        if len(x) <= FEW_POINTS:
            step = np.diff(x).min() if len(x) > 1 else 1.0
            x = x + DODGE * step * ((index + 0.5) / len(rows) - 0.5)
            if len(y) > 1:
                spread = np.clip([middle - low, high - middle], 0, None)
                plot.errorbar(x, middle, spread, fmt="none", ecolor=look.colour, elinewidth=1.0)
            plot.plot(
                x,
                middle,
                color=look.colour,
                linestyle=look.line,
                linewidth=1.5,
                marker=look.marker,
                markersize=3.5,
            )
        else:
            if len(y) > 1:
                plot.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)
            plot.plot(x, middle, color=look.colour, linestyle=look.line, linewidth=1.5)
    left, right = plot.get_xlim()
    if whole and right - left < 2:
        plot.set_xlim((left + right) / 2 - 1, (left + right) / 2 + 1)
    plot.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=whole))
    plot.xaxis.set_major_formatter(EngFormatter(sep=""))
    return ends
