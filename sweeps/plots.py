"""Plots: for each task, curves with their interval, and final scores with theirs, as SVG text.

One colour for each method (Okabe and Ito's palette, which colour-blind readers can tell apart), one
line style for each distribution. Dense runs are black and come first.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from sweeps import stats
from sweeps.axes import DISTRIBUTION, METHOD, text
from sweeps.summary import Row, Summary

COLOURS = {
    "dense": "#000000",
    "static": "#E69F00",
    "set": "#56B4E9",
    "rigl": "#009E73",
    "srigl": "#D55E00",
}
FURTHER_COLOURS = ("#0072B2", "#CC79A7", "#8C6D31", "#7F7F7F", "#332288", "#882255", "#117733")
LINES = {"erk": "-", "uniform": (0, (4, 1.6)), "er": (0, (1, 1.2))}
FURTHER_LINES = ((0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
FEW_POINTS = 12
DODGE = 0.3
STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "sweeps",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.labelsize": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}


Labelled = Sequence[tuple[Row, str]]


@dataclass(frozen=True)
class Panel:
    """One figure: its title and its SVG element, which says in words what it shows."""

    title: str
    svg: str


@dataclass(frozen=True)
class Look:
    """How a row is drawn."""

    colour: str
    line: Any
    marker: str


def panels(summary: Summary) -> list[Panel]:
    """Draw a figure for each task and setting of the axes other than method and distribution."""
    looks = _looks(summary)
    named = METHOD in summary.axes.telling
    others = [name for name in summary.axes.telling if named and name not in (METHOD, DISTRIBUTION)]
    drawn = []
    for task in summary.tasks:
        rows = [row for row in summary.rows if row.task == task]
        for setting in _settings(rows, others):
            chosen = [row for row in rows if _belongs(row, others, setting)]
            title = ", ".join(part for part in (task, *setting) if part) or summary.kind_name
            drawn.append(_panel(summary, title, [(row, _label(row)) for row in chosen], looks))
    return drawn


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


def _panel(summary: Summary, title: str, rows: Labelled, looks: Mapping[str, Look]) -> Panel:
    with mpl.rc_context(STYLE):
        height = max(4.4, 1.8 + 0.36 * len(rows))
        figure = Figure(figsize=(12, height), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.45, 1])
        _curves(left, summary, rows, looks)
        _scores(right, summary, rows, looks)
        _legend(figure, rows, looks)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    described = "; ".join(
        f"{label}: {row.iqm.estimate:.4g} [{row.iqm.low:.4g}, {row.iqm.high:.4g}]"
        for row, label in rows
        if row.iqm is not None
    )
    score = f"{summary.kind.score}, IQM with 95% interval"
    description = f"{title}. {score}: {described or 'no result'}"
    return Panel(title, _inline(file.getvalue(), f"{summary.kind_name} {title}", description))


def _curves(plot: Plot, summary: Summary, rows: Labelled, looks: Mapping[str, Look]) -> None:
    plot.set_title("Mean over seeds, 95% interval")
    plot.set_xlabel(summary.kind.x)
    plot.set_ylabel(summary.kind.y)
    whole = True
    for index, (row, label) in enumerate(rows):
        x, y = common_curve(row.curves)
        if not len(x):
            continue
        whole = whole and bool((x == np.round(x)).all())
        look = looks[row.label]
        middle, low, high = stats.band(y, stats.generator("band", row.task, row.label))
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
    plot.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=whole))
    plot.xaxis.set_major_formatter(EngFormatter(sep=""))


def _legend(figure: Figure, rows: Labelled, looks: Mapping[str, Look]) -> None:
    """Explain colours and, apart from them, line styles; if rows have no method, each row."""
    handles = {}
    for row, label in rows:
        handles[row.method or label] = Line2D([], [], color=looks[row.label].colour, linewidth=3)
    for row, _ in rows:
        name, look = row.values.get(DISTRIBUTION), looks[row.label]
        if name is not None:
            shape = {"linestyle": look.line, "marker": look.marker, "markersize": 5}
            handles[str(name)] = Line2D([], [], color="#555555", linewidth=1.7, **shape)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(8, len(handles)),
        frameon=False,
        handlelength=2.8,
        columnspacing=2.0,
    )


def _scores(plot: Plot, summary: Summary, rows: Labelled, looks: Mapping[str, Look]) -> None:
    plot.set_title("Final score: IQM, 95% interval, single runs")
    plot.set_xlabel(summary.kind.score)
    plot.set_ylim(len(rows) - 0.4, -0.6)
    plot.set_yticks(range(len(rows)), [label for _, label in rows])
    plot.tick_params(axis="y", length=0, labelcolor="#111111")
    plot.grid(axis="y", visible=False)
    plot.spines["left"].set_visible(False)
    for place, (row, _) in enumerate(rows):
        look = looks[row.label]
        if row.iqm is None:
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
            plot.axvline(row.iqm.estimate, color="#999999", linewidth=0.9, linestyle=(0, (2, 2)))
        plot.plot(
            row.scores,
            [place + 0.24] * len(row.scores),
            linestyle="none",
            marker="|",
            markersize=6,
            color=look.colour,
            alpha=0.7,
        )
        if len(row.seeds) > 1:
            plot.hlines(place, row.iqm.low, row.iqm.high, color=look.colour, linewidth=2.2)
        plot.plot(
            [row.iqm.estimate],
            [place],
            marker=look.marker,
            markersize=7,
            color=look.colour,
            markeredgecolor="white",
            markeredgewidth=0.8,
        )


def _looks(summary: Summary) -> dict[str, Look]:
    """Give every row its colour (by method), line style and marker (by distribution)."""
    colours: dict[str, str] = {}
    lines: dict[str, Any] = {}
    markers: dict[str, str] = {}
    looks = {}
    for row in summary.rows:
        method = row.method or row.label
        distribution = str(row.values.get(DISTRIBUTION) or "")
        if method not in colours:
            spare = [colour for colour in FURTHER_COLOURS if colour not in colours.values()]
            colours[method] = COLOURS.get(method) or (spare or FURTHER_COLOURS)[0]
        if distribution not in lines:
            spare_lines = [line for line in FURTHER_LINES if line not in lines.values()]
            known = {"": "-", **LINES}.get(distribution)
            lines[distribution] = known or (spare_lines or FURTHER_LINES)[0]
            markers[distribution] = "osD^v"[len(markers) % 5]
        looks[row.label] = Look(colours[method], lines[distribution], markers[distribution])
    return looks


def _settings(rows: Sequence[Row], others: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the settings that get a figure; dense rows stand in those of others if they fit."""
    sparse = [_setting(row, others) for row in rows if not row.baseline]
    dense = [_setting(row, others) for row in rows if row.baseline]
    alone = [base for base in dense if not any(set(base) <= set(setting) for setting in sparse)]
    return list(dict.fromkeys(sparse + alone))


def _belongs(row: Row, others: Sequence[str], setting: tuple[str, ...]) -> bool:
    own = _setting(row, others)
    return set(own) <= set(setting) if row.baseline else own == setting


def _setting(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(text(name, row.values[name]) for name in names if name in row.values)


def _label(row: Row) -> str:
    """Return the row's label without what the title of its figure says."""
    if row.method is None:
        return row.label
    return " ".join(str(row.values[name]) for name in (METHOD, DISTRIBUTION) if name in row.values)


def _inline(svg: str, name: str, description: str) -> str:
    """Return the SVG element alone, its ids made unique in a page that holds several."""
    prefix = re.sub(r"\W+", "-", name).strip("-").lower()
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', element)
    element = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', element)
    element = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", element)
    return element.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
