"""Studies: what Optuna proposes for a cell, and what came of it, in a journal beside the trials.

A trial that was asked for and not told is open: its driver was killed, or one of its runs was. It
is found again here, whoever asked for it.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sweeps.language.search import Choices, Space
from sweeps.tuning.proposer import Proposer, quiet


@dataclass(frozen=True)
class Trial:
    """A trial.

    Attributes:
        number: Its place in its study, from 0.
        values: Of the fields that are searched.
        state: `open`, `complete`, `pruned` or `failed`.
        score: The mean score over the tuning seeds, of those that were run if it was pruned; None
            if there is none.
        numbers: What Optuna knows the values as.
    """

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    state: str = "open"
    score: float | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)


class Study:
    """The trials of one cell.

    Args:
        storage: Optuna's storage.
        identity: The cell's.
        spaces: The space of each field.
        proposer: How trials are proposed.
    """

    def __init__(
        self, storage: Any, identity: str, spaces: Mapping[str, Space], proposer: Proposer
    ) -> None:
        import optuna

        self._spaces = spaces
        self._proposer = proposer
        self._seed = int(identity[:7], 16)
        self._study = optuna.create_study(
            storage=storage,
            study_name=identity,
            direction="maximize",
            load_if_exists=True,
            pruner=proposer.make_pruner(),
        )

    def trials(self) -> list[Trial]:
        """Return all trials so far, those that are open among them.

        One whose driver was killed while it asked for the values is none.
        """
        found = self._study.get_trials(deepcopy=False)
        return [self._read(trial) for trial in found if {*trial.params} == {*self._spaces}]

    def best(self) -> Trial | None:
        """Return the complete trial of the highest score, the first of equals; None if none is."""
        complete = [trial for trial in self.trials() if trial.state == "complete"]
        return max(complete, key=_score, default=None)

    def ask(self) -> Trial:
        """Open a trial.

        Its values depend on the trials so far and not on when their drivers were started.
        """
        number = len(self._study.get_trials(deepcopy=False))
        with quiet():
            self._study.sampler = self._proposer.make_sampler(self._seed, number)
            asked = self._study.ask()
            values = {name: _suggest(asked, name, space) for name, space in self._spaces.items()}
        return Trial(asked.number, values, numbers=asked.params)

    def complete(self, number: int, score: float) -> None:
        """End a trial with the mean score over its seeds."""
        self._study.tell(number, score)

    def fail(self, number: int) -> None:
        """End a trial that has no score."""
        from optuna.trial import TrialState

        self._study.tell(number, state=TrialState.FAIL)

    def given_up(self, number: int, step: int, score: float) -> bool:
        """Tell the pruner the mean score over the first `step` seeds; end the trial if it says so.

        Returns:
            Whether the trial has ended.
        """
        from optuna.trial import Trial as Opened
        from optuna.trial import TrialState

        frozen = self._study.get_trials(deepcopy=False)[number]
        trial = Opened(self._study, frozen._trial_id)
        if step not in frozen.intermediate_values:
            trial.report(score, step)
        if not trial.should_prune():
            return False
        self._study.tell(number, state=TrialState.PRUNED)
        return True

    def _read(self, trial: Any) -> Trial:
        from optuna.trial import TrialState

        states = {
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
        }
        values = {name: _value(space, trial.params[name]) for name, space in self._spaces.items()}
        score = trial.value if trial.values else None
        state = states.get(trial.state, "open")
        return Trial(trial.number, values, state, score, trial.params)


def open_journal(folder: Path) -> Any:
    """Open the journal of a folder whose lock is held: no other process writes it.

    What a killed driver left half-written there, and its lock, are removed.

    Raises:
        InputError: If the file is no journal.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / "journal.log"
    for left in (f"{path}.lock", f"{path}.lock.rename"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(left)
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)
    try:
        return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(path)!r}: is no journal of Optuna's: {error}") from error


def _score(trial: Trial) -> float:
    return -math.inf if trial.score is None else trial.score


def _suggest(trial: Any, name: str, space: Space) -> Any:
    if isinstance(space, Choices):
        return _value(space, trial.suggest_categorical(name, space.texts))
    suggest: Callable[..., float] = trial.suggest_int if space.whole else trial.suggest_float
    low, high = (int(end) if space.whole else end for end in (space.low, space.high))
    return space.value(suggest(name, low, high, log=space.log))


def _value(space: Space, said: Any) -> Any:
    if isinstance(space, Choices):
        return space.values[space.texts.index(said)]
    return space.value(said)
