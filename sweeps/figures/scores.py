"""Final scores: what stands for each row with its interval, and every single run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes as Plot
from matplotlib.ticker import MaxNLocator

from sweeps.figures.looks import MUTED
from sweeps.figures.sheet import Sheet
from sweeps.results.summary import Row

ROW = 0.27
MOST_LABEL = 24


def draw(sheet: Sheet) -> str:
    """Draw dot and interval of each row, single runs below, a panel for each task and setting."""
    dotted, drawn = False, []
    for part in sheet.parts():
        if not any(row.runs for row, _ in part.rows):
            continue
        said = "; ".join(f"{label}: {spelt(row)}" for row, label in part.rows if row.runs)
        title = f"{sheet.kind.score}, {ways(part.rows)} with 95% interval: {said or 'no result'}"
        names = [f"{shortened(label)} ({len(row.runs)})" for row, label in part.rows]
        plot = forest(sheet, part.title, names, title)
        plot.set_xlabel(sheet.kind.score)
        drawn.append((plot, part))
        for place, (row, _) in enumerate(part.rows):
            if row.estimate is None:
                continue
            if row.baseline and len(part.rows) > 1:
                plot.axvline(row.estimate.value, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
                dotted = True
            _draw_row(plot, sheet, row, place)
        plot.set_xlim(*room(score for row, _ in part.rows for score in row.scores))
    sheet.share_scores("x", drawn)
    found = ways([(row, "") for row in sheet.shown])
    line = " The dotted line is the dense baseline." if dotted else ""
    return (
        f"{sheet.kind.score[:1].upper()}{sheet.kind.score[1:]}: dot and bar are the {found} and "
        f"its 95% interval, ticks below are single runs; the number of seeds is in brackets.{line}"
    )


def forest(sheet: Sheet, title: str, names: Sequence[str], said: str) -> Plot:
    """Return a panel with a line for each name, the first on top."""
    left = min(2.1, 0.25 + 0.072 * max(map(len, names), default=0))
    height = 0.85 + ROW * max(3, len(names))
    plot = sheet.panel(title, said, height=height, left=left)
    plot.set_ylim(len(names) - 0.4, -0.6)
    plot.set_yticks(range(len(names)), names)
    plot.tick_params(axis="y", length=0)
    plot.xaxis.set_major_locator(MaxNLocator(nbins=6))
    plot.grid(axis="y", visible=False)
    plot.spines["left"].set_visible(False)
    return plot


def room(scores: Iterable[float]) -> tuple[float, float]:
    """Return limits in which scores fill half of the room; long intervals of few may go beyond."""
    known = list(scores)
    low, high = min(known), max(known)
    margin = 0.5 * (high - low) or 0.5
    return low - margin, high + margin


def ways(rows: Sequence[tuple[Row, str]]) -> str:
    """Say what stands for the scores of rows."""
    found = {row.estimate.way for row, _ in rows if row.estimate is not None}
    return " or ".join(sorted(found)) or "mean"


def spelt(row: Row) -> str:
    """Return a row's estimate with its interval and its number of seeds."""
    if row.estimate is None:
        return "no result"
    found = row.estimate.interval
    ends = "" if found is None else f" [{found.low:.4g}, {found.high:.4g}]"
    return f"{row.estimate.value:.4g}{ends} ({len(row.runs)})"


def shortened(label: str) -> str:
    """Return a label that leaves room for what it stands beside."""
    return (
        label if len(label) <= MOST_LABEL else label[: MOST_LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )


def _draw_row(plot: Plot, sheet: Sheet, row: Row, place: int) -> None:
    assert row.estimate is not None
    look = sheet.look(row)
    plot.plot(
        row.scores,
        [place + 0.27] * len(row.scores),
        linestyle="none",
        marker="|",
        markersize=5,
        color=look.colour,
        alpha=0.75,
    )
    if (found := row.estimate.interval) is not None:
        plot.hlines(place, found.low, found.high, color=look.colour, linewidth=1.8)
    plot.plot([row.estimate.value], [place], marker=look.marker, markersize=5, color=look.colour)
