"""Axes: what tells the runs of a grid apart, for labels, tables and plots.

An axis is a dotted field in which runs of a kind differ. A field that plays no part in a run, such
as the distribution of a dense network, has no value there: changing it would not change the run.
Values are those in force: where a spec says None for a method's own growth rule, the rule's name.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sparse_core.checks import InputError
from sweeps.language import spec as specs
from sweeps.language.grid import Run

METHOD = "sparse.method"
DISTRIBUTION = "sparse.distribution"
DENSE = "dense"


class Axes:
    """The axes of runs of one kind.

    Attributes:
        task: Fields that say what is learnt.
        names: Other fields in which the runs differ, but for the seed: method and distribution
            first.
        telling: As few of the names as suffice to tell the runs apart; the method always, and what
            was tuned only where nothing else does.
        tuned: Those of the names whose values tuning found.

    Args:
        runs: Of one kind.
        tuned: Fields whose values tuning found.
    """

    def __init__(self, runs: Sequence[Run], tuned: Collection[str] = ()) -> None:
        groups = {run.cell.key: run for run in runs}
        self._flat = {group: run.cell.shown for group, run in groups.items()}
        names = dict.fromkeys(
            [METHOD, DISTRIBUTION, *(name for flat in self._flat.values() for name in flat)]
        )
        self._choices = {
            name: _distinct(flat.get(name) for flat in self._flat.values()) for name in names
        }
        self.task = tuple(name for name in runs[0].kind.task if name in self._choices)
        self.names = tuple(
            name
            for name, choices in self._choices.items()
            if len(choices) > 1 and name not in self.task
        )
        self.tuned = tuple(name for name in self.names if name in tuned)
        self._tasks = {group: self._task(flat) for group, flat in self._flat.items()}
        self._beside = {name: self._neighbours(name) for name in self.names}
        self._fixed = {name for name in self.names if self._follows_task(name)}
        self._known: dict[tuple[Any, ...], bool] = {}
        self._values = {group: self._part(run) for group, run in groups.items()}
        self.telling = self._fewest(groups)

    def group(self, run: Run) -> str:
        """Return the identity that a run shares with the same run of other seeds."""
        return run.cell.key

    def values(self, run: Run) -> dict[str, Any]:
        """Return the run's value on each axis that plays a part in it."""
        return self._values[self.group(run)]

    def label(self, run: Run) -> str:
        """Return what the run is called beside the others, without its task and seed."""
        values = self.values(run)
        parts = [text(name, values[name]) for name in self.telling if name in values]
        return " ".join(parts) or run.kind_name

    def task_of(self, run: Run) -> str:
        """Return what the run learns."""
        return self._tasks[self.group(run)]

    def _task(self, flat: Mapping[str, Any]) -> str:
        return ", ".join(text(name, flat[name]) for name in self.task if flat[name] is not None)

    def _fewest(self, groups: Iterable[str]) -> tuple[str, ...]:
        """Leave out, tuned ones first, then from the last, every axis that is not needed."""
        kept = list(self.names)
        for name in sorted(reversed(self.names), key=lambda name: name not in self.tuned):
            rest = [other for other in kept if other != name]
            if name == METHOD or self._alone_tells(name, rest, groups):
                continue
            if name in self._fixed or all(
                self._tasks[first] != self._tasks[second] or self._apart(first, second, rest)
                for first, second in itertools.combinations(groups, 2)
            ):
                kept = rest
        return tuple(kept)

    def _alone_tells(self, name: str, rest: Sequence[str], groups: Iterable[str]) -> bool:
        """Return whether there are groups that this axis alone tells apart, a quick first look."""
        seen: dict[str, Any] = {}
        for group in groups:
            values = self._values[group]
            if name in values:
                like = repr((self._tasks[group], [values.get(other, ...) for other in rest]))
                if seen.setdefault(like, values[name]) != values[name]:
                    return True
        return False

    def _follows_task(self, name: str) -> bool:
        """Return whether all groups of a task have the same value, so that it tells none apart."""
        values: dict[str, Any] = {}
        return all(
            values.setdefault(self._tasks[group], flat.get(name)) == flat.get(name)
            for group, flat in self._flat.items()
        )

    def _neighbours(self, name: str) -> set[str]:
        """Return the groups beside which there is one that differs in this field alone."""
        alike: dict[str, list[str]] = {}
        for group, flat in self._flat.items():
            rest = repr([(other, value) for other, value in flat.items() if other != name])
            alike.setdefault(rest, []).append(group)
        return {group for found in alike.values() if len(found) > 1 for group in found}

    def _apart(self, first: str, second: str, names: Iterable[str]) -> bool:
        """Return whether two groups differ on an axis on which both have a value.

        If there is no such axis at all, as where one value rules out another field's, they are told
        apart by the axes on which only one of them has a value.
        """
        one, other = self._values[first], self._values[second]
        common = [name for name in self.names if name in one and name in other]
        if any(one[name] != other[name] for name in common):
            return any(one[name] != other[name] for name in names if name in common)
        return any((name in one) != (name in other) for name in names)

    def _part(self, run: Run) -> dict[str, Any]:
        group = self.group(run)
        flat = self._flat[group]
        own = {name: flat.get(name) for name in self.names if name in flat or name == METHOD}
        known = run.cell.in_force
        return {
            name: value
            for name, value in own.items()
            if name == METHOD
            or group in self._beside[name]
            or (value is not None if name in known else self._plays_a_part(run, name, value))
        }

    def _plays_a_part(self, run: Run, name: str, value: Any) -> bool:
        """Return whether another value would make another run, or other fields need this one."""
        flat = self._flat[self.group(run)]
        key = (name, repr(value), self.task_of(run), flat.get(METHOD))
        if name in self._fixed and key in self._known:
            return self._known[key]
        others = (other for other in self._choices[name] if other != value)
        found = any(_matters(run, name, other) for other in others) or _needed(run, name)
        self._known[key] = found
        return found


def text(name: str, value: Any) -> str:
    """Return a value for a reader: bare if it speaks for itself, else with its field's name."""
    if isinstance(value, str) and value != "none":
        return value
    return f"{short(name)}={value:g}" if isinstance(value, float) else f"{short(name)}={value}"


def short(name: str) -> str:
    """Return the last part of a dotted name."""
    return name.rpartition(".")[2]


def _matters(run: Run, name: str, value: Any) -> bool:
    values = specs.flatten(run.cell.plain(run.spec.seed)) | {name: value}
    try:
        other = specs.load(type(run.spec), values)
    except InputError:
        return False
    return specs.run_id(run.kind_name, other, run.sources) != run.run_id


def _needed(run: Run, name: str) -> bool:
    """Whether other fields need this one's value, as the arguments of a wrapper need the wrapper.

    It cannot go back to its default alone, then.
    """
    values = specs.flatten(run.cell.plain(run.spec.seed))
    if values.pop(name, None) is None:
        return False
    try:
        specs.load(type(run.spec), values)
    except InputError:
        return True
    return False


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
