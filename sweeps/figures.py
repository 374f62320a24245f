"""The figures of the report: each is one function that draws and says what is to be seen.

To add one, write a function such as those in `FIGURES` and add it there. A kind of run can have
figures of its own besides, `Kind.figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from sweeps.looks import Draw, Drawn, Group
from sweeps.summary import Row

FEW_POINTS = 12
DODGE = 0.3
PANELS_A_LINE = 3


def curves_and_scores(canvas: Figure, group: Group) -> Drawn:
    """Draw mean curves on the left, final scores on the right."""
    canvas.set_figheight(max(4.4, 1.8 + 0.36 * len(group.rows)))
    left, right = canvas.subplots(1, 2, width_ratios=[1.45, 1])
    _curves(left, group)
    _scores(right, group)
    group.legend(canvas)
    kind = group.summary.kind
    said = "; ".join(
        f"{label}: {_spelt(row)}" for row, label in group.rows if row.estimate is not None
    )
    dotted = any(row.baseline and row.runs for row, _ in group.rows)
    return Drawn(
        f"Left: mean over seeds against {kind.x}, and the range of single runs. Right: final score "
        f"of each method; dot and bar are the {ways(group)} and its 95% interval, ticks below are "
        f"single runs{', the dotted line is the dense baseline' if dotted else ''}.",
        f"{kind.score}, {ways(group)} with 95% interval: {said or 'no result'}",
    )


def ways(group: Group) -> str:
    """Say what stands for the scores of a group's rows."""
    found = {row.estimate.way for row, _ in group.rows if row.estimate is not None}
    return " or ".join(sorted(found)) or "mean"


def _spelt(row: Row) -> str:
    """Return a row's estimate with its interval and its number of seeds."""
    assert row.estimate is not None
    found = row.estimate.interval
    ends = "" if found is None else f" [{found.low:.4g}, {found.high:.4g}]"
    return f"{row.estimate.value:.4g}{ends} ({len(row.runs)})"


def further_curves(canvas: Figure, group: Group) -> Drawn | None:
    """Draw each of the kind's further curves that any run has, a panel each."""
    there = [
        (key, title, x[0] if x else group.summary.kind.x)
        for key, title, *x in group.summary.kind.panels
        if any(row.panel(key) for row, _ in group.rows)
    ]
    if not there:
        return None
    lines = -(-len(there) // PANELS_A_LINE)
    canvas.set_figheight(0.9 + 3.0 * lines)
    plots = canvas.subplots(lines, PANELS_A_LINE, squeeze=False).flat
    said = []
    for (key, title, x), plot in zip(there, plots, strict=False):
        plot.set_title(title)
        plot.set_xlabel(x)
        rows = [(row, label, row.panel(key)) for row, label in group.rows if row.panel(key)]
        _mean_curves(plot, group, rows)
        ends = ", ".join(f"{label} {_last(curves):.3g}" for _, label, curves in rows)
        said.append(f"{title}, last value: {ends}")
    for plot in plots:
        plot.set_axis_off()
    group.legend(canvas)
    return Drawn(
        "Mean over seeds and range of single runs, of each quantity that was measured: "
        + ", ".join(title for _, title, _ in there)
        + ".",
        "; ".join(said),
    )


FIGURES: dict[str, Draw] = {
    "curves and scores": curves_and_scores,
    "further curves": further_curves,
}
"""The figures of every kind, in their order."""


def common_curve(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
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
    return x, np.array([np.interp(x, curve[:, 0], curve[:, 1]) for curve in filled])


def _curves(plot: Plot, group: Group) -> None:
    plot.set_title("Mean and range of runs")
    plot.set_xlabel(group.summary.kind.x)
    plot.set_ylabel(group.summary.kind.y)
    _mean_curves(plot, group, [(row, label, row.curves) for row, label in group.rows])


def _mean_curves(
    plot: Plot, group: Group, rows: Sequence[tuple[Row, str, Sequence[np.ndarray]]]
) -> None:
    whole = True
    for index, (row, label, curves) in enumerate(rows):
        x, y = common_curve(curves)
        if not len(x):
            continue
        whole = whole and bool((x == np.round(x)).all())
        look = group.look(row)
        middle, low, high = y.mean(axis=0), y.min(axis=0), y.max(axis=0)
        style: dict[str, Any] = {"color": look.colour, "linestyle": look.line, "linewidth": 1.7}
        if len(x) <= FEW_POINTS:
            step = np.diff(x).min() if len(x) > 1 else 1.0
            x = x + DODGE * step * ((index + 0.5) / len(rows) - 0.5)
            spread = np.clip([middle - low, high - middle], 0, None)
            plot.errorbar(x, middle, spread, fmt="none", ecolor=look.colour, elinewidth=1.2)
            style |= {"marker": look.marker, "markersize": 4.5}
        else:
            plot.fill_between(x, low, high, color=look.colour, alpha=0.12, linewidth=0)
        plot.plot(x, middle, label=label, **style)
    left, right = plot.get_xlim()
    if whole and right - left < 2:
        plot.set_xlim((left + right) / 2 - 1, (left + right) / 2 + 1)
    plot.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=whole))
    plot.xaxis.set_major_formatter(EngFormatter(sep=""))


def _last(curves: Sequence[np.ndarray]) -> float:
    return float(np.mean([curve[-1, 1] for curve in curves]))


def _scores(plot: Plot, group: Group) -> None:
    plot.set_title(f"Final score: {ways(group)}, 95% interval, runs")
    plot.set_xlabel(group.summary.kind.score)
    plot.set_ylim(len(group.rows) - 0.4, -0.6)
    plot.set_yticks(range(len(group.rows)), [label for _, label in group.rows])
    plot.tick_params(axis="y", length=0, labelcolor="#111111")
    plot.grid(axis="y", visible=False)
    plot.spines["left"].set_visible(False)
    for place, (row, _) in enumerate(group.rows):
        look = group.look(row)
        if row.estimate is None:
            plot.text(
                0.02,
                place,
                "no result",
                transform=plot.get_yaxis_transform(),
                va="center",
                style="italic",
                color="#666666",
            )
            continue
        if row.baseline:
            plot.axvline(row.estimate.value, color="#999999", linewidth=0.9, linestyle=(0, (2, 2)))
        plot.plot(
            row.scores,
            [place + 0.24] * len(row.scores),
            linestyle="none",
            marker="|",
            markersize=6,
            color=look.colour,
            alpha=0.7,
        )
        if (found := row.estimate.interval) is not None:
            plot.hlines(place, found.low, found.high, color=look.colour, linewidth=2.2)
        plot.plot(
            [row.estimate.value],
            [place],
            marker=look.marker,
            markersize=7,
            color=look.colour,
            markeredgecolor="white",
            markeredgewidth=0.8,
        )
