"""Progress: what a sweep is doing, drawn from the files of its runs.

Because only the store is read, the same display serves the process that launched the runs, a second
terminal, and runs that another machine's scheduler started on a shared disk.
"""

from __future__ import annotations

import time
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
from sweeps.store.directory import RunDir, State, is_number

REFRESH = 0.5
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
    name: str
    kind: str
    percent: bool
    state: State = State.PENDING
    done: float = 0.0
    score: str = ""
    seconds: float | None = None
    numbers: str = ""
    message: str = ""


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
        self.runs = [
            Watched(
                folders[run.run_id],
                run_name(run, axes[run.kind_name]),
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
            if run.state is State.DONE:
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
    """Shows a board: a live table on a terminal, else a line for each run that ends."""

    def __init__(self, board: Board, title: str, console: Console) -> None:
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
        """Look at the runs again and show what has changed, at most every `REFRESH` seconds."""
        if time.monotonic() < self._next and not force:
            return
        self._next = time.monotonic() + REFRESH
        ended = self._board.refresh()
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
    for run in board.runs:
        table.add_row(*_cells(run))
    return table


def run_name(run: Run, axes: Axes) -> str:
    """Return a run's name among the runs of its grid."""
    return f"{cell_name(run, axes)}, seed {run.spec.seed}"


def cell_name(run: Run, axes: Axes) -> str:
    """Return the name that a run shares with the same run of other seeds."""
    name = f"{run.kind_name} {axes.task_of(run)}".strip()
    label = f": {axes.label(run)}" if axes.telling else ""
    return f"{name}{label}"


def watch(display: Display, board: Board, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show a board until all its runs have ended."""
    while not board.finished:
        sleep(REFRESH)
        display.update(force=True)


def _look(run: Watched) -> None:
    seen = run.folder.look()
    run.state = seen.state
    run.done, run.numbers, run.message = 0.0, "", seen.message
    if seen.result is not None:
        score, origin = seen.result["score"], seen.result["provenance"]
        run.done, run.seconds = 1.0, origin["wall_s"] + origin.get("setup_s", 0.0)
        run.score = f"{100 * score:.1f}%" if run.percent else number(score)
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


def _cells(run: Watched) -> list[Any]:
    middle: Any = Text(run.score)
    if run.state is State.RUNNING:
        middle = ProgressBar(total=1.0, completed=run.done, width=20)
    elif run.message:
        middle = Text(run.message, overflow="ellipsis", no_wrap=True)
    ran = run.state in (State.RUNNING, State.DONE) and run.seconds is not None
    seconds = duration(run.seconds or 0.0) if ran else ""
    return [Text(run.state.value, STYLES[run.state]), Text(run.name), middle, seconds, run.numbers]
