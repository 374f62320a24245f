"""Summaries: one row for each group of runs that differ by seed alone.

Rows carry the aggregates that the report, its figures and its CSV files show. A run without a
result has its place here too: it is counted as planned and listed as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse_core.checks import InputError
from sweeps import kinds, stats
from sweeps.axes import DENSE, METHOD, Axes
from sweeps.grid import Grid, Run
from sweeps.kinds import Kind
from sweeps.stats import Interval
from sweeps.store import RunDir, State, is_curve, is_number


@dataclass(frozen=True)
class Outcome:
    """What became of a run, as far as it could be seen."""

    run: Run
    state: State
    result: Mapping[str, Any] | None
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
        seeds: The seeds that have a result, in ascending order.
        scores: Their scores, in that order.
        mean: Mean score and its interval.
        iqm: Interquartile mean and its interval.
        difference: Mean difference to the dense runs with the same seeds, and its interval.
        requested: Requested sparsity.
        achieved: Achieved sparsity, mean over runs.
        updates: Updates of the topology, mean over runs; of the network with the fewest. None: no
            network's method has any.
        still: For each run in which a topology never moved: what it says about that.
        wall_s: Wall time, mean over runs.
        extra: Further numbers of the kind, mean over runs.
        curves: x and y of each run's curve.
        panels: The same of the kind's further curves, those that any run has, by their keys.
    """

    task: str
    label: str
    values: Mapping[str, Any]
    planned: int
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    mean: Interval | None
    iqm: Interval | None
    difference: Interval | None
    requested: float | None
    achieved: float | None
    updates: float | None
    still: tuple[str, ...]
    wall_s: float | None
    extra: Mapping[str, float | None]
    curves: tuple[np.ndarray, ...]
    panels: Mapping[str, tuple[np.ndarray, ...]]

    @property
    def method(self) -> str | None:
        """The method, if the runs differ in it."""
        value = self.values.get(METHOD)
        return None if value is None else str(value)

    @property
    def baseline(self) -> bool:
        """Whether these are the dense runs that others are compared with."""
        return self.method == DENSE


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


def collect(grid: Grid, folders: Mapping[str, RunDir]) -> list[Outcome]:
    """Read what became of every run of a grid."""
    outcomes = []
    for run in grid.runs:
        folder = folders[run.run_id]
        seen = folder.look()
        outcomes.append(Outcome(run, seen.state, seen.result, seen.message, folder))
    return outcomes


def summarise(outcomes: Sequence[Outcome]) -> list[Summary]:
    """Summarise the outcomes kind by kind."""
    summaries = []
    for name in dict.fromkeys(outcome.run.kind_name for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.run.kind_name == name]
        kind = mine[0].run.kind
        axes = Axes([outcome.run for outcome in mine])
        rows = _rows(kind, axes, mine)
        summaries.append(Summary(name, kind, axes, rows))
    return summaries


def _rows(kind: Kind, axes: Axes, outcomes: Sequence[Outcome]) -> tuple[Row, ...]:
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(axes.group(outcome.run), []).append(outcome)
    finished = {
        group: {item.run.spec.seed: item.result for item in items if item.result is not None}
        for group, items in groups.items()
    }
    dense = [
        group for group, items in groups.items() if axes.values(items[0].run).get(METHOD) == DENSE
    ]
    rows = []
    for group, items in groups.items():
        run = items[0].run
        fitting = [base for base in dense if _is_baseline(axes, groups[base][0].run, run)]
        others = finished[fitting[0]] if fitting and fitting[0] != group else {}
        rows.append(_row(kind, axes, run, len(items), finished[group], others))
    tasks = list(dict.fromkeys(row.task for row in rows))
    return tuple(sorted(rows, key=lambda row: (tasks.index(row.task), not row.baseline)))


def _is_baseline(axes: Axes, dense: Run, run: Run) -> bool:
    """Return whether a dense run is a run's baseline: alike in task and in all that it has."""
    own, others = axes.values(dense), axes.values(run)
    alike = all(others.get(name, ...) == own[name] for name in own if name != METHOD)
    return alike and axes.task_of(run) == axes.task_of(dense)


def _row(
    kind: Kind,
    axes: Axes,
    run: Run,
    planned: int,
    results: Mapping[int, Mapping[str, Any]],
    others: Mapping[int, Mapping[str, Any]],
) -> Row:
    seeds = sorted(results)
    ordered = [results[seed] for seed in seeds]
    scores = _scores(kind, results, seeds)
    name = axes.group(run)
    paired = [seed for seed in seeds if seed in others]
    pair = _scores(kind, results, paired), _scores(kind, others, paired)
    factor = 100.0 if kind.percent else 1.0
    extras = [extra(kind, result) for result in ordered]
    return Row(
        task=axes.task_of(run),
        label=axes.label(run),
        values=axes.values(run),
        planned=planned,
        seeds=tuple(seeds),
        scores=tuple(float(score) for score in scores[:, 0]),
        mean=stats.interval(stats.mean, scores, stats.generator("mean", name)) if seeds else None,
        iqm=stats.interval(stats.iqm, scores, stats.generator("iqm", name)) if seeds else None,
        difference=stats.paired_difference(*pair, stats.generator("difference", name))
        if len(paired) > 1
        else None,
        requested=_mean([result["sparsity"]["requested"] for result in ordered]),
        achieved=_mean([result["sparsity"]["achieved"] for result in ordered]),
        updates=_mean([count for result in ordered if (count := updates(result)) is not None]),
        still=tuple(said for result in ordered if (said := still(result))),
        wall_s=_mean([result["provenance"]["wall_s"] for result in ordered]),
        extra={
            key: _mean([value for values in extras if (value := values[key]) is not None])
            for key, _ in kind.extra
        },
        curves=tuple(_curve(result, kind.curve) * [1.0, factor] for result in ordered),
        panels={key: found for key, *_ in kind.panels if (found := _further(ordered, key))},
    )


def extra(kind: Kind, result: Mapping[str, Any]) -> dict[str, float | None]:
    """Return a kind's further numbers of one result as they are shown; None: it has none.

    Raises:
        InputError: If a function of the user's own fails.
    """
    found: dict[str, float | None] = {}
    for key, _ in kind.extra:
        if ":" in key:
            found[key] = _measured(key, result)
        else:
            value = result.get(key)
            found[key] = (100.0 if kind.percent else 1.0) * value if is_number(value) else None
    return found


def _measured(reference: str, result: Mapping[str, Any]) -> float | None:
    """Return a number that a function of the user's own takes from a result."""
    measure = kinds.measure(reference)
    try:
        value = measure(result)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"extra={reference!r}: failed on run {result.get('run_id')}: {said}", field="extra"
        ) from error
    return float(value) if is_number(value) else None


def updates(result: Mapping[str, Any]) -> int | None:
    """Return the updates of the topology that moved least; None if no method has any."""
    counts = result.get("updates")
    if not isinstance(counts, Mapping) or "still" not in result:
        return None
    return min((int(count) for count in counts.values() if is_number(count)), default=None)


def still(result: Mapping[str, Any]) -> str:
    """Return in words which topologies never moved, and why; empty if all that can have."""
    sentences = result.get("still")
    return "; ".join(map(str, sentences)) if isinstance(sentences, list) else ""


def _scores(
    kind: Kind, results: Mapping[int, Mapping[str, Any]], seeds: Sequence[int]
) -> stats.Floats:
    """Return the scores of these seeds as `(runs, 1)`, in percent if the kind says so."""
    scores = np.array([[results[seed]["score"]] for seed in seeds], dtype=float).reshape(-1, 1)
    return scores * (100.0 if kind.percent else 1.0)


def _curve(result: Mapping[str, Any], name: str) -> stats.Floats:
    """Return a curve as `(points, 2)`; empty if the result has none of that name."""
    points = result.get(name, ())
    return np.asarray(points if is_curve(points) else (), dtype=float).reshape(-1, 2)


def _further(results: Sequence[Mapping[str, Any]], key: str) -> tuple[stats.Floats, ...]:
    """Return the curves that a dotted key names, of the results that have one."""
    found = []
    for result in results:
        *path, name = key.split(".")
        for part in path:
            inner = result.get(part)
            result = inner if isinstance(inner, Mapping) else {}
        curve = _curve(result, name)
        if len(curve):
            found.append(curve)
    return tuple(found)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
