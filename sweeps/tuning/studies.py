"""Studies: what Optuna proposes for a cell, and what came of it, in a journal beside the trials.

A trial that was asked for and not told is open: its driver was killed, or one of its runs was. It
is found again here, whoever asked for it.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sparse_core.imports import extra_of, is_reference, load
from sweeps.search import Choices, Space

SAMPLERS: Mapping[str, str] = {
    "tpe": "optuna.samplers:TPESampler",
    "random": "optuna.samplers:RandomSampler",
    "qmc": "optuna.samplers:QMCSampler",
    "gp": "optuna.samplers:GPSampler",
    "cmaes": "optuna.samplers:CmaEsSampler",
}
PRUNERS: Mapping[str, str] = {
    "none": "optuna.pruners:NopPruner",
    "median": "optuna.pruners:MedianPruner",
    "halving": "optuna.pruners:SuccessiveHalvingPruner",
}


@dataclass(frozen=True)
class Proposer:
    """How trials are proposed, and when they are given up.

    Attributes:
        sampler: A key of `SAMPLERS`, or `package.module:NAME` of a function of a seed that returns
            one of Optuna's samplers.
        pruner: A key of `PRUNERS`, or `package.module:NAME` of a function without arguments that
            returns one of Optuna's pruners. It is asked after each seed of a trial.
        trials: Trials of each cell; the first third (3 to 10) of `tpe` are drawn at random.
    """

    sampler: str = "tpe"
    pruner: str = "none"
    trials: int = 10

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError(
                f"trials={self.trials!r}: must be an integer of at least 1", field="trials"
            )
        for name, value, table in (
            ("sampler", self.sampler, SAMPLERS),
            ("pruner", self.pruner, PRUNERS),
        ):
            if value not in table and not is_reference(value):
                raise InputError(
                    f"{name}={value!r}: must be one of {', '.join(table)}, or package.module:NAME",
                    field=name,
                )

    @property
    def prunes(self) -> bool:
        """Whether trials may be given up."""
        return self.pruner != "none"

    def make_sampler(self, seed: int) -> Any:
        """Return a sampler."""
        settings: dict[str, Any] = {"seed": seed}
        if self.sampler == "tpe":
            settings |= {
                "n_startup_trials": min(10, max(3, self.trials // 3)),
                "constant_liar": True,
            }
        if self.sampler == "qmc":
            settings |= {"scramble": True, "warn_asynchronous_seeding": False}
        return _made("sampler", self.sampler, SAMPLERS, settings)

    def make_pruner(self) -> Any:
        """Return a pruner."""
        settings = {
            "median": {"n_startup_trials": 3},
            "halving": {"min_resource": 1, "reduction_factor": 2},
        }
        return _made("pruner", self.pruner, PRUNERS, settings.get(self.pruner, {}))


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
        with _quiet():
            self._study.sampler = self._proposer.make_sampler(self._seed + number)
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


def check_installed() -> None:
    """Raise an InputError that names the extra unless Optuna is installed."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"dst tune: {error}{extra_of('optuna')}") from None


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


def _made(field_name: str, name: str, table: Mapping[str, str], settings: dict[str, Any]) -> Any:
    if name not in table:
        settings = {} if field_name == "pruner" else {"seed": settings["seed"]}
        made = load(field_name, name, f"a function that returns a {field_name} of Optuna's")
        return made(**settings)
    made = load(field_name, table[name], f"a {field_name} of Optuna's")
    with _quiet():
        try:
            return made(**settings)
        except ImportError as error:
            said = " ".join(str(error).split())
            raise InputError(f"{field_name}={name!r}: {said}", field=field_name) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out Optuna's warnings that parts of it may still change."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


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
