"""`dst sweep plan`: what a grid would run, what there is of it, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table
from rich.text import Text

from sweeps.commands.listing import core_time
from sweeps.language.grid import Grid
from sweeps.results.forecast import Estimate, Forecast
from sweeps.results.progress import Board
from sweeps.results.tables import duration
from sweeps.store.directory import RunDir, State

COLUMNS = (State.DONE, State.RUNNING, State.FAILED, State.UNREADABLE)


@dataclass
class Row:
    """A cell of the grid.

    Attributes:
        name: What it is called beside the others.
        states: Where its runs stand, one for each seed.
        estimate: How long one of them takes; None: nothing like it has finished.
    """

    name: str
    estimate: Estimate | None
    states: list[State] = field(default_factory=list)

    def count(self, state: State) -> int:
        """Return how many of the runs are in this state."""
        return self.states.count(state)

    @property
    def left(self) -> int:
        """How many runs `dst sweep run` would start, or wait for."""
        return len(self.states) - self.count(State.DONE) - self.count(State.UNREADABLE)


def rows(grid: Grid, folders: Mapping[str, RunDir], runs_dir: Path) -> list[Row]:
    """Return the cells of a grid, in its order.

    Args:
        grid: The grid.
        folders: The directory of each run, by its identity.
        runs_dir: The store, where finished runs tell how long others will take.
    """
    forecast = Forecast(runs_dir)
    found: dict[str, Row] = {}
    for run, watched in zip(grid.runs, Board(grid.runs, dict(folders)).runs, strict=True):
        if watched.cell not in found:
            found[watched.cell] = Row(watched.cell, forecast.of(run))
        found[watched.cell].states.append(watched.state)
    return list(found.values())


def plan_table(cells: Sequence[Row]) -> Table:
    """Return the cells with their counts, as a table for the terminal."""
    states = [state for state in COLUMNS if any(row.count(state) for row in cells)]
    table = Table.grid(padding=(0, 2))
    heads = ["", "runs", *(state.value for state in states), "to do", "each"]
    table.add_row(*(Text(head, "dim", justify="left" if not head else "right") for head in heads))
    for row in cells:
        counts = [len(row.states), *map(row.count, states), row.left]
        cells_of_row = [Text(str(count), justify="right") for count in counts]
        table.add_row(Text(row.name), *cells_of_row, Text(_each(row.estimate), justify="right"))
    return table


def conclusion(grid: Grid, cells: Sequence[Row], slots: int) -> list[str]:
    """Say in a line or two what is left to do and how long it will take.

    Args:
        grid: The grid.
        cells: Its cells.
        slots: Runs at a time.
    """
    left = sum(row.left for row in cells)
    total = f"{grid.name}: {len(grid.runs)} runs in {len(cells)} cells, {left} to do"
    if not left:
        return [total]
    known = [(row.left, row.estimate) for row in cells if row.estimate is not None and row.left]
    counted = sum(count for count, _ in known)
    guesses = sum(count for count, estimate in known if estimate.guessed)
    seconds = sum(count * estimate.seconds for count, estimate in known)
    if not counted:
        minutes = grid.header.minutes
        if minutes is None:
            return [total, "time: unknown, no run like these has finished in this store"]
        said = f"time: {core_time(minutes)} on one core for the whole grid, its file says"
        return [total, f"{said}; no run like these has finished in this store"]
    about = "about " if counted == left else "more than "
    time = f"time: {about}{duration(seconds / slots)} with {slots} at a time"
    if counted < left:
        time += f"; nothing is known of {left - counted} runs"
    if guesses:
        time += f"; a guess from similar runs for {guesses} of them"
    return [total, time]


def _each(estimate: Estimate | None) -> str:
    if estimate is None:
        return "?"
    return f"{'~' if estimate.guessed else ''}{duration(estimate.seconds)}"
