"""The loop of `dst tune`: trials are asked for, their runs launched, their scores told.

All state lies in the folder `tuning` beside the grid's runs: Optuna's journal, a directory for each
run, and `best.yaml`. A driver that was killed leaves open trials there, with which the next begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparse_core.checks import InputError
from sweeps.language.grid import Run
from sweeps.store.directory import RunDir, State, prepare
from sweeps.tuning.cells import TunedCell
from sweeps.tuning.proposer import Proposer
from sweeps.tuning.studies import Study, Trial, open_journal

FOLDER = "tuning"
"""Of a grid's trials, beside its runs."""

Launch = Callable[[Sequence[Run], Mapping[str, RunDir]], None]
"""Brings prepared runs, whose directories are given by identity, to their ends."""


@dataclass
class _Attempt:
    """A trial that is at work.

    Attributes:
        cell: Its cell.
        study: The study.
        trial: The trial.
        runs: Its runs, one for each tuning seed.
        ended: How many of the runs were told to the study.
    """

    cell: TunedCell
    study: Study
    trial: Trial
    runs: Sequence[Run]
    ended: int = 0


class Tuner:
    """Brings the studies of all cells to their number of trials.

    Args:
        cells: The cells.
        folder: Where trials are stored; its lock is held.
        proposer: How trials are proposed, and how many.
        launch: Brings runs to their ends.
        say: Told a line about each trial that has ended.

    Attributes:
        studies: The study of each cell that has something to be searched, by the cell's identity.
        killed: Trials that came to no end, because something killed one of their runs.
    """

    def __init__(
        self,
        cells: Sequence[TunedCell],
        folder: Path,
        proposer: Proposer,
        launch: Launch,
        say: Callable[[str], None],
    ) -> None:
        storage = open_journal(folder)
        self._cells = [cell for cell in cells if cell.spaces]
        self._folder = folder
        self._proposer = proposer
        self._launch = launch
        self._say = say
        self.studies = {
            cell.identity: Study(storage, cell.identity, cell.spaces, proposer)
            for cell in self._cells
        }
        self.killed: set[tuple[str, int]] = set()

    def work(self, batch: int) -> None:
        """Go on until each study has its trials, or only killed ones are left.

        Args:
            batch: Trials of each cell at a time.
        """
        while attempts := [a for cell in self._cells for a in self._next(cell, batch)]:
            self._bring_to_an_end(attempts)

    def _next(self, cell: TunedCell, batch: int) -> list[_Attempt]:
        """Return the trials of a cell to do next: open ones first, then new ones.

        Those that an earlier command with more trials has opened are left alone.
        """
        study = self.studies[cell.identity]
        trials = study.trials()
        waiting = [
            trial
            for trial in trials
            if trial.state == "open"
            and trial.number < self._proposer.trials
            and (cell.identity, trial.number) not in self.killed
        ]
        chosen = waiting[:batch]
        while len(chosen) < batch and len(trials) < self._proposer.trials:
            chosen.append(study.ask())
            trials = study.trials()
        return [a for trial in chosen if (a := self._begin(cell, study, trial)) is not None]

    def _begin(self, cell: TunedCell, study: Study, trial: Trial) -> _Attempt | None:
        try:
            return _Attempt(cell, study, trial, cell.runs(trial.values))
        except InputError as error:
            self._fail(cell, study, trial, str(error))
            return None

    def _bring_to_an_end(self, attempts: Sequence[_Attempt]) -> None:
        """Do the runs of trials, seed after seed if trials may be given up between them."""
        seeds = len(attempts[0].runs)
        for end in range(1, seeds + 1) if self._proposer.prunes else [seeds]:
            runs = {run.run_id: run for a in attempts for run in a.runs[a.ended : end]}
            folders = {name: RunDir(self._folder / name) for name in runs}
            for name, run in runs.items():
                prepare(folders[name], run.record())
            self._launch(list(runs.values()), folders)
            attempts = [a for a in attempts if self._goes_on(a, end, folders)]

    def _goes_on(self, attempt: _Attempt, end: int, folders: Mapping[str, RunDir]) -> bool:
        """Look at the runs that have ended; return whether there are more to be done."""
        cell, study, trial = attempt.cell, attempt.study, attempt.trial
        for run in attempt.runs[attempt.ended : end]:
            look = folders[run.run_id].look()
            if look.state is not State.DONE:
                error = folders[run.run_id].error() or {}
                if look.state is State.FAILED and error.get("type") != "Exit":
                    self._fail(cell, study, trial, look.message)
                else:
                    self.killed.add((cell.identity, trial.number))
                    said = look.message or look.state.value
                    self._tell(cell, trial, f"not done, seed {run.spec.seed}: {said}")
                return False
        attempt.ended = end
        score = self._mean(attempt)
        if end == len(attempt.runs):
            study.complete(trial.number, score)
            self._tell(cell, trial, f"score {score:.4g}")
            return False
        if study.given_up(trial.number, end, score):
            seeds = f"{end} of {len(attempt.runs)} seeds"
            self._tell(cell, trial, f"score {score:.4g}, given up after {seeds}")
            return False
        return True

    def _mean(self, attempt: _Attempt) -> float:
        scores = []
        for run in attempt.runs[: attempt.ended]:
            result = RunDir(self._folder / run.run_id).result()
            assert result is not None
            scores.append(float(result.get("valid_score", result["score"])))
        return math.fsum(scores) / len(scores)

    def _fail(self, cell: TunedCell, study: Study, trial: Trial, why: str) -> None:
        study.fail(trial.number)
        self._tell(cell, trial, f"failed: {why}")

    def _tell(self, cell: TunedCell, trial: Trial, what: str) -> None:
        values = "  ".join(
            f"{name.rpartition('.')[2]} {value}" for name, value in trial.values.items()
        )
        place = f"trial {trial.number + 1} of {self._proposer.trials}"
        self._say(f"{cell.name}, {place}: {values}  {what}")
