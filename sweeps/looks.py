"""How rows are drawn, whichever figure draws them, and what a figure is given.

One colour for each method (Okabe and Ito's palette, which colour-blind readers can tell apart), one
line style for each distribution. Dense runs are black and come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sweeps.axes import DISTRIBUTION
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


@dataclass(frozen=True)
class Look:
    """How a row is drawn."""

    colour: str
    line: Any
    marker: str


@dataclass(frozen=True)
class Group:
    """What one figure is about: the rows of one task and setting.

    Attributes:
        summary: The summary that they are from.
        title: Their task and setting.
        rows: Each row with its label in this figure, the baseline first.
        looks: How each row is drawn, by the row's own label.
    """

    summary: Summary
    title: str
    rows: Sequence[tuple[Row, str]]
    looks: Mapping[str, Look]

    def look(self, row: Row) -> Look:
        """Return how a row is drawn."""
        return self.looks[row.label]

    def legend(self, canvas: Figure) -> None:
        """Explain colours and, apart from them, line styles; if rows have no method, each row."""
        handles = {}
        for row, label in self.rows:
            handles[row.method or label] = Line2D([], [], color=self.look(row).colour, linewidth=3)
        for row, _ in self.rows:
            name, look = row.values.get(DISTRIBUTION), self.look(row)
            if name is not None:
                shape = {"linestyle": look.line, "marker": look.marker, "markersize": 5}
                handles[str(name)] = Line2D([], [], color="#555555", linewidth=1.7, **shape)
        canvas.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=min(8, len(handles)),
            frameon=False,
            handlelength=2.8,
            columnspacing=2.0,
        )


@dataclass(frozen=True)
class Drawn:
    """What a figure says in words.

    Attributes:
        caption: What is to be seen, in whole sentences.
        numbers: What it shows, for readers who cannot see it; empty: the caption does.
    """

    caption: str
    numbers: str = ""


class Draw(Protocol):
    """A figure: one function that draws a group of rows and says what is to be seen."""

    def __call__(self, canvas: Figure, group: Group, /) -> Drawn | None:
        """Draw.

        Args:
            canvas: An empty figure of 12 x 4.4 inches, laid out by itself; it can be resized.
            group: What to draw.

        Returns:
            Its caption; None: there is nothing to draw, and the report has no such figure.
        """
        ...


def looks(summary: Summary) -> dict[str, Look]:
    """Give every row its colour (by method), line style and marker (by distribution)."""
    colours: dict[str, str] = {}
    lines: dict[str, Any] = {}
    markers: dict[str, str] = {}
    found = {}
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
        found[row.label] = Look(colours[method], lines[distribution], markers[distribution])
    return found
