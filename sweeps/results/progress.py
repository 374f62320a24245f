"""Progress: what a sweep is doing, drawn from the files of its runs.

Because only the store is read, the same display serves the process that launched the runs, a second
terminal, and runs that another machine's scheduler started on a shared disk.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.language.axes import Axes
from sweeps.language.grid import Run
from sweeps.results.tables import duration, number
from sweeps.store.directory import RunDir, State
from sweeps.store.validity import is_number

REFRESH = 0.5
SHARE = 0.02
"""Part of a core that looking at runs may take: where there are many, it is done less often."""

SETTLED_NS = 2_000_000_000
"""Changes of a directory that follow each other sooner may have the same time."""

MANY = 200
"""Runs that have a line each in a list; of more, those of a cell share one where they can."""

STYLES = {
    State.PENDING: "dim",
    State.RUNNING: "cyan",
    State.DONE: "green",
    State.FAILED: "bold red",
    State.UNREADABLE: "bold red",
}
ENDED = (State.DONE, State.FAILED, State.UNREADABLE)


@dataclass
class Watched:
    """A run and what was last seen of it."""

    folder: RunDir
    cell: str
    name: str
    kind: str
    percent: bool
    state: State = State.PENDING
    done: float = 0.0
    value: float = math.nan
    score: str = ""
    seconds: float | None = None
    numbers: str = ""
    message: str = ""
    changed: int | None = None


class Board:
    """All runs of a grid as last seen.

    Args:
        runs: The runs.
        folders: The directory of each, by identity.
        slots: How many run at a time; None: as many as are seen running.
    """

    def __init__(
        self, runs: Sequence[Run], folders: dict[str, RunDir], slots: int | None = None
    ) -> None:
        axes = {
            kind: Axes([run for run in runs if run.kind_name == kind])
            for kind in dict.fromkeys(run.kind_name for run in runs)
        }
        cells = {run.cell.key: cell_name(run, axes[run.kind_name]) for run in runs}
        self.runs = [
            Watched(
                folders[run.run_id],
                cells[run.cell.key],
                _seeded(cells[run.cell.key], run),
                run.kind_name,
                run.kind.percent,
            )
            for run in runs
        ]
        self._slots = slots
        self.refresh()

    def refresh(self) -> list[Watched]:
        """Look at every run that is not done; return those that ended since the last look."""
        ended = []
        for run in self.runs:
            if run.state is State.DONE or (run.state is not State.RUNNING and _unchanged(run)):
                continue
            before = run.state
            _look(run)
            if run.state in ENDED and run.state is not before:
                ended.append(run)
        return ended

    def count(self, state: State) -> int:
        """Return how many runs are in this state."""
        return sum(run.state is state for run in self.runs)

    @property
    def ended(self) -> int:
        """How many runs have a result or an error, or cannot be read."""
        return sum(self.count(state) for state in ENDED)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.ended == len(self.runs)

    def remaining_seconds(self) -> float | None:
        """Estimate the time left from what finished runs took; None while none has finished."""
        taken: dict[str, list[float]] = {}
        for run in self.runs:
            if run.state is State.DONE and run.seconds is not None:
                taken.setdefault(run.kind, []).append(run.seconds)
        if not taken:
            return None
        means = {kind: sum(seconds) / len(seconds) for kind, seconds in taken.items()}
        typical = sum(means.values()) / len(means)
        work = sum(
            (1 - run.done) * means.get(run.kind, typical)
            for run in self.runs
            if run.state in (State.PENDING, State.RUNNING)
        )
        return work / (self._slots or max(1, self.count(State.RUNNING)))


class Display:
    """Shows a board: a live table on a terminal, else a line for each run that ends.

    Attributes:
        pause: Seconds until the next look.
    """

    def __init__(self, board: Board, title: str, console: Console) -> None:
        self.pause = REFRESH
        self._board = board
        self._title = title
        self._console = console
        self._live: Live | None = None
        self._next = 0.0
        self._ended: list[Watched] = []

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.update(force=True)
        if self._live is not None:
            self._live.stop()

    def update(self, *, force: bool = False) -> None:
        """Look at the runs again and show what has changed, unless it is too soon."""
        if time.monotonic() < self._next and not force:
            return
        began = time.process_time()
        self._show(self._board.refresh())
        self.pause = max(REFRESH, (time.process_time() - began) / SHARE)
        self._next = time.monotonic() + self.pause

    def _show(self, ended: Sequence[Watched]) -> None:
        self._ended += ended
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            return
        before = self._board.ended - len(ended)
        for place, run in enumerate(ended, start=before + 1):
            line = self._line(run, place)
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _line(self, run: Watched, place: int) -> str:
        total = len(self._board.runs)
        left = self._board.remaining_seconds()
        parts = [f"[{place:{len(str(total))}}/{total}] {run.name}"]
        if run.message:
            parts.append(f"{run.state.value.upper()}: {run.message}")
        else:
            parts += [f"score {run.score}", duration(run.seconds or 0.0)]
        if left and place < total:
            parts.append(f"about {duration(left)} left")
        return "  ".join(parts)

    def _table(self) -> Group:
        board = self._board
        total, ended = len(board.runs), board.ended
        left = board.remaining_seconds()
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(self._title, "bold"),
            ProgressBar(total=total, completed=ended, width=30),
            f"{ended}/{total}",
            *(
                Text(f"{board.count(state)} {state.value}", STYLES[state])
                for state in (State.RUNNING, State.FAILED, State.UNREADABLE)
                if board.count(state)
            ),
            "" if left is None or board.finished else f"about {duration(left)} left",
        )
        room = max(4, self._console.height - 4)
        running = [run for run in board.runs if run.state is State.RUNNING][:room]
        recent = self._ended[max(0, len(self._ended) - min(8, room - len(running))) :]
        body = Table.grid(padding=(0, 2))
        for run in [*recent, *running]:
            body.add_row(*_cells(run))
        return Group(head, body)


def status_table(board: Board) -> Table:
    """Return every run with its state, for a single look."""
    table = Table.grid(padding=(0, 2))
    if len(board.runs) <= MANY:
        for run in board.runs:
            table.add_row(*_cells(run))
        return table
    cells: dict[tuple[str, str, State], list[Watched]] = {}
    for place, run in enumerate(board.runs):
        alone = "" if run.state in (State.DONE, State.PENDING) else str(place)
        cells.setdefault((run.cell, alone, run.state), []).append(run)
    sizes = Counter(run.cell for run in board.runs)
    for (name, alone, _), runs in cells.items():
        if alone:
            table.add_row(*_cells(runs[0]))
        else:
            table.add_row(*_cells_of_many(name, runs, sizes[name]))
    return table


def run_name(run: Run, axes: Axes) -> str:
    """Return a run's name among the runs of its grid."""
    return _seeded(cell_name(run, axes), run)


def _seeded(cell: str, run: Run) -> str:
    return f"{cell}, seed {run.spec.seed}"


def cell_name(run: Run, axes: Axes) -> str:
    """Return the name that a run shares with the same run of other seeds."""
    name = f"{run.kind_name} {axes.task_of(run)}".strip()
    label = f": {axes.label(run)}" if axes.telling else ""
    return f"{name}{label}"


def watch(display: Display, board: Board, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show a board until all its runs have ended."""
    while not board.finished:
        sleep(display.pause)
        display.update(force=True)


def _unchanged(run: Watched) -> bool:
    """Return whether no file has come into a run's directory, or gone, since the last look.

    Whoever takes up a run replaces its progress file; one who dies over it changes no file.
    """
    before = run.changed
    try:
        run.changed = run.folder.path.stat().st_mtime_ns
    except FileNotFoundError:
        run.changed = -1
    except OSError:
        run.changed = None
    settled = time.time_ns() - (run.changed or 0) > SETTLED_NS
    return run.changed is not None and run.changed == before and settled


def _look(run: Watched) -> None:
    seen = run.folder.glance()
    run.state = seen.state
    run.done, run.numbers, run.message = 0.0, "", seen.message
    if seen.brief is not None:
        run.done, run.seconds, run.value = 1.0, seen.brief.seconds, seen.brief.score
        run.score = _score(run.value, run.percent)
    elif run.state is State.RUNNING:
        progress = run.folder.progress() or {}
        done: Any = progress.get("done")
        started: Any = progress.get("started")
        run.done = done if is_number(done) else 0.0
        run.seconds = time.time() - started if is_number(started) else None
        numbers = progress.get("numbers")
        run.numbers = "  ".join(
            f"{name} {number(value)}"
            for name, value in (numbers.items() if isinstance(numbers, dict) else ())
            if is_number(value)
        )


def _cells_of_many(name: str, runs: Sequence[Watched], size: int) -> list[Any]:
    state = runs[0].state
    score, seconds = "", ""
    if state is State.DONE:
        middle = statistics.median(run.value for run in runs)
        score = f"median {_score(middle, runs[0].percent)}"
        seconds = duration(sum(run.seconds or 0.0 for run in runs))
    return [
        Text(state.value, STYLES[state]),
        Text(f"{name}, {len(runs)} of {size} runs"),
        Text(score),
        seconds,
        "",
    ]


def _score(value: float, percent: bool) -> str:
    return f"{100 * value:.1f}%" if percent else number(value)


def _cells(run: Watched) -> list[Any]:
    middle: Any = Text(run.score)
    if run.state is State.RUNNING:
        middle = ProgressBar(total=1.0, completed=run.done, width=20)
    elif run.message:
        middle = Text(run.message, overflow="ellipsis", no_wrap=True)
    ran = run.state in (State.RUNNING, State.DONE) and run.seconds is not None
    seconds = duration(run.seconds or 0.0) if ran else ""
    return [Text(run.state.value, STYLES[run.state]), Text(run.name), middle, seconds, run.numbers]
