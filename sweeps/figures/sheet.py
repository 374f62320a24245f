"""What a figure draws on: panels that stack on a phone, told apart as the grid's axes ask for."""

from __future__ import annotations

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure

from sweeps.figures.looks import Channels, Look, Looks, channels
from sweeps.language.axes import text
from sweeps.language.kinds import Kind
from sweeps.results.summary import Row, Summary

Item = TypeVar("Item")

WIDTH, HEIGHT = 4.3, 3.0
"""Inches of a panel."""

MOST_PANELS = 9
"""Panels of a figure in the page."""

FEW_PANELS = 6
"""The same where there are many rows to be drawn."""

MANY_ROWS = 100

TITLE_WIDTH = 46

LETTER = 0.07
"""Inches that a letter of an axis' name is wide."""


def room_for_panels(summary: Summary) -> int:
    """Return how many panels a figure may have in the page."""
    return MOST_PANELS if len(summary.rows) <= MANY_ROWS else FEW_PANELS


class Draw(Protocol):
    """A figure: one function that draws panels and says what is to be seen.

    Entries of results that it asks for are named in its attribute `needs`, if it has one; they are
    in `Facts.named`.
    """

    def __call__(self, sheet: Sheet, /) -> str:
        """Draw.

        Args:
            sheet: What to draw on. A figure without any panel is left out of the report.

        Returns:
            Its caption, in whole sentences.
        """
        ...


@dataclass(frozen=True)
class Part:
    """What one panel is about: the rows of one task and setting.

    Attributes:
        title: Their task and setting.
        task: Their task.
        setting: Their values on the axes that panels follow, as text.
        rows: Each row with its label in this panel, the baseline first.
    """

    title: str
    task: str
    setting: tuple[str, ...]
    rows: Sequence[tuple[Row, str]]


@dataclass(frozen=True)
class Panel:
    """One panel that was drawn.

    Attributes:
        title: What it is about.
        said: What it shows, in words and numbers.
        figure: Matplotlib's figure, which holds this panel alone.
        wide: Whether it needs the room of two.
    """

    title: str
    said: str
    figure: Figure
    wide: bool


class Sheet:
    """An empty sheet for one figure of one kind of runs.

    Args:
        summary: What is to be drawn.
        most: Panels that there is room for.

    Attributes:
        summary: What is to be drawn.
        channels: Which axes of the grid colour, line and panel follow.
        panels: What was drawn.
        left_out: Number of panels that there was no room for.
        shown: The rows that were drawn, for the legend.
    """

    def __init__(self, summary: Summary, most: int = MOST_PANELS) -> None:
        self.summary = summary
        self.channels: Channels = channels(summary)
        self.panels: list[Panel] = []
        self.left_out = 0
        self.shown: list[Row] = []
        self._most = most
        self._looks = Looks(summary, self.channels)

    @property
    def kind(self) -> Kind:
        """The kind of the runs."""
        return self.summary.kind

    def parts(self, *along: str) -> list[Part]:
        """Return the rows of each task and setting, as far as there is room for their panels.

        Args:
            *along: Axes that do not tell panels apart because the figure draws along them.
        """
        parts = list(self._parts(along))
        chosen = {id(part) for part in self.limited(_in_turns(parts))}
        return [part for part in parts if id(part) in chosen]

    def limited(self, items: Sequence[Item]) -> list[Item]:
        """Return as many of the things to draw as there is room for, and count the others."""
        room = max(0, self._most - len(self.panels))
        self.left_out += max(0, len(items) - room)
        return list(items[:room])

    def panel(self, title: str, said: str = "", *, wide: bool = False, **room: float) -> Plot:
        """Return a new panel.

        Args:
            title: What it is about.
            said: What it shows, in words and numbers, for readers who cannot see it.
            wide: Whether it needs the room of two.
            **room: `height` in inches, and `left`, `right` and `bottom`, inches beside the axes.
        """
        lines = textwrap.wrap(title, TITLE_WIDTH * (2 if wide else 1)) or [""]
        width = 2 * WIDTH if wide else WIDTH
        top = 0.12 + 0.19 * len(lines)
        height = room.get("height", HEIGHT) + 0.19 * (len(lines) - 1)
        left, right = room.get("left", 0.62), room.get("right", 0.14)
        bottom = room.get("bottom", 0.5)
        figure = Figure(figsize=(width, height))
        place = (
            left / width,
            bottom / height,
            1 - (left + right) / width,
            1 - (top + bottom) / height,
        )
        plot = figure.add_axes(place)
        figure.text(
            0.08 / width, 1 - 0.1 / height, "\n".join(lines), va="top", weight="bold", size=9.5
        )
        self.panels.append(Panel(title, said, figure, wide))
        return plot

    def say(self, said: str) -> None:
        """Put in words what the latest panel shows."""
        self.panels[-1] = dataclasses.replace(self.panels[-1], said=said)

    def look(self, row: Row) -> Look:
        """Return how a row is drawn, which puts it into the legend."""
        if not any(row is known for known in self.shown):
            self.shown.append(row)
        return self._looks.of(row)

    def label(self, row: Row) -> str:
        """Return what a row is called within its panel."""
        names = (self._looks.colour_name(row), self._looks.line_name(row))
        return " ".join(name for name in names if name is not None) or row.label

    def share(self, *, x: bool = False, y: bool = False, panels: Sequence[Plot] = ()) -> None:
        """Give panels the same limits.

        Args:
            x: On the horizontal axis.
            y: On the vertical axis.
            panels: Those; empty: all.
        """
        plots = list(panels) or [axes for panel in self.panels for axes in panel.figure.axes]
        if len(plots) < 2:
            return
        for wanted, get, put in ((x, "get_xlim", "set_xlim"), (y, "get_ylim", "set_ylim")):
            if wanted:
                limits = [getattr(plot, get)() for plot in plots]
                low, high = min(low for low, _ in limits), max(high for _, high in limits)
                for plot in plots:
                    getattr(plot, put)(low, high)

    def share_scores(self, axis: Literal["x", "y"], drawn: Sequence[tuple[Plot, Part]]) -> None:
        """Give panels of the same task the same limits, on the axis of their scores.

        Args:
            axis: That axis.
            drawn: The panels, each with what it is about.
        """
        for task in dict.fromkeys(part.task for _, part in drawn):
            alike = [plot for plot, part in drawn if part.task == task]
            self.share(x=axis == "x", y=axis == "y", panels=alike)

    def legend(self) -> list[tuple[str, Look]]:
        """Return what colours mean and, apart from them, lines: each name with its look."""
        keys: dict[str, Look] = {}
        shown = {id(row) for row in self.shown}
        rows = [row for row in self.summary.rows if id(row) in shown]
        for row in rows:
            name = self._looks.colour_name(row) or self.label(row)
            keys.setdefault(name, Look(self._looks.of(row).colour, "-", ""))
        for row in rows:
            if (line := self._looks.line_name(row)) is not None:
                look = self._looks.of(row)
                keys.setdefault(line, Look(colour="#6b6b6b", line=look.line, marker=look.marker))
        return list(keys.items())

    def seeds(self) -> str:
        """Say how many seeds stand behind what was drawn."""
        counts = sorted({len(row.runs) for row in self.shown if row.runs})
        if not counts:
            return ""
        few, many = counts[0], counts[-1]
        return f"{few} seed{'s' if few != 1 else ''}" if few == many else f"{few} to {many} seeds"

    def _parts(self, along: Iterable[str]) -> Iterator[Part]:
        others = [name for name in self.channels.panel if name not in set(along)]
        for task in self.summary.tasks:
            rows = [row for row in self.summary.rows if row.task == task]
            for setting in _settings(rows, others):
                chosen = [row for row in rows if _belongs(row, others, setting)]
                title = ", ".join(part for part in (task, *setting) if part)
                labelled = [(row, self.label(row)) for row in chosen]
                yield Part(title or self.summary.kind_name, task, setting, labelled)


def _in_turns(parts: Sequence[Part]) -> list[Part]:
    """Return the first part of each task, then the second of each, and so on."""
    counts: Counter[str] = Counter()
    turns = []
    for part in parts:
        turns.append(counts[part.task])
        counts[part.task] += 1
    return [parts[place] for place in sorted(range(len(parts)), key=turns.__getitem__)]


def fold_labels(figure: Figure) -> None:
    """Fold names of vertical axes that are longer than the axes, and make room for them."""
    for plot in figure.axes:
        place = plot.get_position()
        most = int(place.height * figure.get_figheight() / LETTER)
        if len(plot.get_ylabel()) > most:
            plot.set_ylabel(textwrap.fill(plot.get_ylabel(), most))
            more = 2 * LETTER / figure.get_figwidth()
            plot.set_position((place.x0 + more, place.y0, place.width - more, place.height))


def _settings(rows: Sequence[Row], others: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the settings that get a panel; dense rows stand in those of others if they fit."""
    sparse = [_setting(row, others) for row in rows if not row.baseline]
    dense = [_setting(row, others) for row in rows if row.baseline]
    known = set(sparse)
    alone = [base for base in dense if not any(set(base) <= set(setting) for setting in known)]
    return list(dict.fromkeys(sparse + alone))


def _belongs(row: Row, others: Sequence[str], setting: tuple[str, ...]) -> bool:
    own = _setting(row, others)
    return set(own) <= set(setting) if row.baseline else own == setting


def _setting(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(text(name, row.values[name]) for name in names if name in row.values)
