"""Summaries: one row for each group of runs that differ by seed alone.

Rows carry the aggregates that the report, its figures and its CSV files show. A run without a
result has its place here too: it is counted as planned and listed as missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.language.axes import DENSE, METHOD, Axes
from sweeps.language.grid import Run
from sweeps.language.kinds import Kind
from sweeps.results import pairs, stats
from sweeps.results.estimates import Estimate, estimate
from sweeps.results.facts import Facts, distil
from sweeps.results.pairs import Difference
from sweeps.store.directory import RunDir, State


@dataclass(frozen=True)
class Outcome:
    """What became of a run, as far as it could be seen."""

    run: Run
    state: State
    facts: Facts | None
    message: str
    folder: RunDir


@dataclass(frozen=True)
class Row:
    """The runs that differ by seed alone.

    Attributes:
        task: What they learn.
        label: What they are called beside the others.
        values: Their value on each axis that plays a part in them.
        planned: How many runs the grid has.
        runs: Those that have a result, by ascending seed.
        estimate: What stands for their scores.
        others: The dense runs that they are compared with.
        difference: Their scores less those of the dense runs with the same seeds.
    """

    task: str
    label: str
    values: Mapping[str, Any]
    planned: int
    runs: tuple[Facts, ...]
    estimate: Estimate | None
    others: tuple[Facts, ...]
    difference: Difference | None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that have a result, in ascending order."""
        return tuple(run.seed for run in self.runs)

    @property
    def scores(self) -> tuple[float, ...]:
        """Their scores, in that order."""
        return tuple(run.score for run in self.runs)

    @property
    def curves(self) -> tuple[stats.Floats, ...]:
        """X and y of each run's curve."""
        return tuple(run.curve for run in self.runs)

    @property
    def better(self) -> float | None:
        """Probability that one of them beats a dense run (Agarwal et al. 2021)."""
        if not self.runs or not self.others:
            return None
        theirs = [run.score for run in self.others]
        columns = (np.array(values)[:, None] for values in (self.scores, theirs))
        return float(stats.probability_of_improvement(*columns))

    @property
    def unpaired(self) -> bool:
        """Whether there are dense runs, but fewer than two of the same seeds."""
        return bool(self.others) and self.difference is None and len(self.runs) > 1

    @property
    def mean(self) -> float | None:
        """The mean score."""
        return _mean(self.scores)

    @property
    def requested(self) -> float | None:
        """Requested sparsity."""
        return _mean([run.sparsity["requested"] for run in self.runs])

    @property
    def achieved(self) -> float | None:
        """Achieved sparsity, mean over runs."""
        return _mean([run.sparsity["achieved"] for run in self.runs])

    @property
    def weights(self) -> float | None:
        """Active weights of all layers at the end, those of dense layers too, mean over runs."""
        return _mean([sum(layer.active for layer in run.layers) for run in self.runs])

    @property
    def updates(self) -> float | None:
        """Updates of the topology, of the network with the fewest, mean over runs.

        None: no network's method has any.
        """
        return _mean([run.updates for run in self.runs if run.updates is not None])

    @property
    def still(self) -> tuple[str, ...]:
        """For each run in which a topology never moved: what it says about that."""
        return tuple(run.still for run in self.runs if run.still)

    @property
    def method(self) -> str | None:
        """The method, if the runs differ in it."""
        value = self.values.get(METHOD)
        return None if value is None else str(value)

    @property
    def baseline(self) -> bool:
        """Whether these are the dense runs that others are compared with."""
        return self.method == DENSE

    def panel(self, key: str) -> tuple[stats.Floats, ...]:
        """Return x and y of a further curve of the kind, of the runs that have it."""
        return tuple(run.panels[key] for run in self.runs if key in run.panels)

    def extra(self, key: str) -> float | None:
        """Return a further number of the kind, mean over runs."""
        return _mean([value for run in self.runs if (value := run.extra[key]) is not None])

    def measured(self, name: str) -> float | None:
        """Return a number of the runs' provenance, such as `wall_s`, mean over runs."""
        return _mean([run.measured[name] for run in self.runs if name in run.measured])


@dataclass(frozen=True)
class Summary:
    """All rows of one kind, task by task, baselines first."""

    kind_name: str
    kind: Kind
    axes: Axes
    rows: tuple[Row, ...]

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the order of the grid."""
        return list(dict.fromkeys(row.task for row in self.rows))


def collect(
    runs: Iterable[Run], folders: Mapping[str, RunDir], named: Iterable[str] = ()
) -> list[Outcome]:
    """Read what became of each run.

    Args:
        runs: The runs.
        folders: The directory of each, by its identity.
        named: Entries of results that figures ask for.

    Raises:
        InputError: If a function of the user's own fails.
    """
    outcomes = []
    named = tuple(named)
    for run in runs:
        folder = folders[run.run_id]
        seen = folder.look()
        facts = None
        if seen.result is not None:
            facts = distil(run.kind, run.spec.seed, seen.result, named)
        outcomes.append(Outcome(run, seen.state, facts, seen.message, folder))
    return outcomes


def summarise(outcomes: Sequence[Outcome], tuned: Collection[str] = ()) -> list[Summary]:
    """Summarise the outcomes kind by kind.

    Args:
        outcomes: What became of each run.
        tuned: Fields of which each method has a value of its own, found by tuning: a run need not
            be like its dense baseline in these.
    """
    summaries = []
    for name in dict.fromkeys(outcome.run.kind_name for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.run.kind_name == name]
        kind = mine[0].run.kind
        axes = Axes([outcome.run for outcome in mine], tuned)
        rows = _corrected(_rows(axes, mine, tuned))
        summaries.append(Summary(name, kind, axes, rows))
    return summaries


def _rows(axes: Axes, outcomes: Sequence[Outcome], tuned: Collection[str]) -> list[Row]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(axes.group(outcome.run), []).append(outcome)
    finished = {
        group: sorted(
            (item.facts for item in items if item.facts is not None), key=lambda facts: facts.seed
        )
        for group, items in groups.items()
    }
    dense = [
        group for group, items in groups.items() if axes.values(items[0].run).get(METHOD) == DENSE
    ]
    rows = []
    for group, items in groups.items():
        run = items[0].run
        fitting = [base for base in dense if _is_baseline(axes, groups[base][0].run, run, tuned)]
        others = finished[fitting[0]] if fitting and fitting[0] != group else []
        rows.append(_row(axes, run, len(items), finished[group], others))
    places = {task: place for place, task in enumerate(dict.fromkeys(row.task for row in rows))}
    return sorted(rows, key=lambda row: (places[row.task], not row.baseline))


def _is_baseline(axes: Axes, dense: Run, run: Run, tuned: Collection[str]) -> bool:
    """Return whether a dense run is a run's baseline: alike in task and in all that it has."""
    own, others = axes.values(dense), axes.values(run)
    free = {METHOD, *tuned}
    alike = all(others.get(name, ...) == own[name] for name in own if name not in free)
    return alike and axes.task_of(run) == axes.task_of(dense)


def _row(axes: Axes, run: Run, planned: int, runs: Sequence[Facts], others: Sequence[Facts]) -> Row:
    scores = [facts.score for facts in runs]
    theirs = {facts.seed: facts.score for facts in others}
    pair = [(facts.score, theirs[facts.seed]) for facts in runs if facts.seed in theirs]
    found = pairs.difference([one for one, _ in pair], [other for _, other in pair])
    return Row(
        task=axes.task_of(run),
        label=axes.label(run),
        values=axes.values(run),
        planned=planned,
        runs=tuple(runs),
        estimate=estimate(scores, axes.group(run)),
        others=tuple(others),
        difference=found,
    )


def _corrected(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Correct the probabilities of all differences, which stand in one table."""
    compared = [row.difference for row in rows if row.difference is not None]
    corrected = iter(pairs.holm([found.p for found in compared]))
    return tuple(
        row
        if row.difference is None
        else dataclasses.replace(
            row, difference=dataclasses.replace(row.difference, p_holm=next(corrected))
        )
        for row in rows
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
