"""How rows are told apart in figures: which axes of the grid colour, line and panel follow.

Colour follows the method, the line the distribution, where the runs differ in them; else the first
axes that have few enough values. What is left tells panels apart. Colours are those of Okabe and
Ito, which colour-blind readers can tell apart; dense runs are black, or white on a dark page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.language.axes import DENSE, DISTRIBUTION, METHOD, text
from sweeps.results.summary import Row, Summary

INK = "#1a1a1a"
MUTED = "#6b6b6b"
FAINT = "#e3e3e3"
COLOURS = {
    DENSE: INK,
    "static": "#e69f00",
    "set": "#56b4e9",
    "rigl": "#009e73",
    "srigl": "#d55e00",
}
FURTHER_COLOURS = ("#0072b2", "#cc79a7", "#8c6d31", "#7f7f7f", "#332288", "#882255", "#117733")
ON_DARK = {
    INK: "#ececec",
    MUTED: "#a3a3a3",
    FAINT: "#34383c",
    "#0072b2": "#5aa9e6",
    "#8c6d31": "#c8a55b",
    "#7f7f7f": "#ababab",
    "#332288": "#9a8fe8",
    "#882255": "#d873a5",
    "#117733": "#5cb878",
    "#009e73": "#1fb98d",
    "#d55e00": "#ee7722",
}
"""What stands for a colour on a dark page; others stay as they are."""

LINES: dict[str, Any] = {"erk": "-", "uniform": (0, (4, 1.6)), "er": (0, (1, 1.2))}
FURTHER_LINES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.6)),
    (0, (1, 1.2)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = "osD^vPX"
MOST_LINES = len(FURTHER_LINES)
MOST_COLOURS = 1 + len(FURTHER_COLOURS)


@dataclass(frozen=True)
class Look:
    """How a row is drawn."""

    colour: str = INK
    line: Any = "-"
    marker: str = "o"


@dataclass(frozen=True)
class Channels:
    """Which axes of a grid are told apart by what.

    Attributes:
        colour: The axis that colour follows; None: there is none.
        line: The axis that line and marker follow; None: there is none.
        panel: The other axes.
    """

    colour: str | None
    line: str | None
    panel: tuple[str, ...]


def channels(summary: Summary) -> Channels:
    """Give each axis that tells rows apart its channel."""
    telling = list(summary.axes.telling)
    counts = {name: len(values_of(summary.rows, name)) for name in telling}
    colour = METHOD if METHOD in telling else _first(telling, counts, MOST_COLOURS)
    rest = [name for name in telling if name != colour]
    words = [name for name in rest if not is_numeric(summary.rows, name)]
    line = DISTRIBUTION if DISTRIBUTION in rest else _first(words, counts, MOST_LINES)
    if colour is not None and line is None and METHOD != colour:
        line = _first(rest, counts, MOST_LINES)
    return Channels(colour, line, tuple(name for name in rest if name != line))


def _first(names: Sequence[str], counts: Mapping[str, int], most: int) -> str | None:
    return next((name for name in names if 1 < counts[name] <= most), None)


def values_of(rows: Sequence[Row], name: str) -> list[Any]:
    """Return the values that rows have on an axis, each once, in their order."""
    found: list[Any] = []
    for row in rows:
        if name in row.values and row.values[name] not in found:
            found.append(row.values[name])
    return found


def is_numeric(rows: Sequence[Row], name: str) -> bool:
    """Return whether all values on an axis are numbers, and there are several."""
    values = values_of(rows, name)
    numbers = all(type(value) in (int, float) for value in values)
    return len(values) > 1 and numbers


class Looks:
    """Gives every row of a summary its colour, line and marker.

    Args:
        summary: The summary.
        channel: Which axes they follow.
    """

    def __init__(self, summary: Summary, channel: Channels) -> None:
        self._channel = channel
        self._colours: dict[str, str] = {}
        self._lines: dict[str, tuple[Any, str]] = {}
        for row in summary.rows:
            if (name := self.colour_name(row)) is not None and name not in self._colours:
                self._colours[name] = self._free_colour(name)
            if (name := self.line_name(row)) is not None and name not in self._lines:
                self._lines[name] = self._free_line(name)

    def of(self, row: Row) -> Look:
        """Return how a row is drawn."""
        colour, line = self.colour_name(row), self.line_name(row)
        first = INK if self._channel.colour is None else MUTED
        shape, marker = ("-", "o") if line is None else self._lines[line]
        return Look(first if colour is None else self._colours[colour], shape, marker)

    def colour_name(self, row: Row) -> str | None:
        """Return what a row's colour stands for."""
        return _name(row, self._channel.colour)

    def line_name(self, row: Row) -> str | None:
        """Return what a row's line stands for."""
        return _name(row, self._channel.line)

    def _free_colour(self, name: str) -> str:
        taken = self._colours.values()
        if name in COLOURS:
            return COLOURS[name]
        spare = [colour for colour in FURTHER_COLOURS if colour not in taken]
        if self._channel.colour != METHOD and INK not in taken:
            return INK
        return (spare or FURTHER_COLOURS)[0]

    def _free_line(self, name: str) -> tuple[Any, str]:
        taken = [line for line, _ in self._lines.values()]
        spare = [line for line in FURTHER_LINES if line not in taken]
        line = LINES.get(name) or (spare or FURTHER_LINES)[0]
        return line, MARKERS[len(self._lines) % len(MARKERS)]


def _name(row: Row, axis: str | None) -> str | None:
    return None if axis is None or axis not in row.values else text(axis, row.values[axis])
