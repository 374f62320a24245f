"""What sweeps ask of a kind: of its spec, its runner and its player.

A spec is a dataclass with a field `seed` and with a default for every field, in a module that
imports no torch. What else it may have, each a Protocol below, sweeps use where it is there:

    canonical       the equal spec in one form; identities are taken of it
    in_force        what holds where a field says None, for tables and labels
    check_data      looks for data and libraries before anything runs
    part_of         what part of a longer run it is, which can begin where it ends
    refused_by      what refuses it before any run, with libraries that specs do not import
    files           files whose content decides what the run is; their hashes are part of it
    expand          presets, with EXPAND_READS: the fields that a preset depends on
    FIRST_DEFAULTS  the first default of a field whose default has changed since

A dataclass within a spec, such as its `sparse`, may have `in_force` as well. What runners return is
checked by `sweeps.store.validity.fault_of`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeGuard, runtime_checkable

Progress = Callable[[float, Mapping[str, float]], None]
"""Told the fraction that is done and numbers so far."""


@runtime_checkable
class Canonical(Protocol):
    """A spec some of whose fields may play no part in the run."""

    def canonical(self) -> Self:
        """Return the equal spec with whatever plays no part at its default.

        What that is must not depend on the seed.
        """
        ...


@runtime_checkable
class InForce(Protocol):
    """A spec, or a dataclass in one, in which None stands for a value that depends on others."""

    def in_force(self) -> Mapping[str, Any]:
        """Return what holds by dotted field; None: the field plays no part in this run."""
        ...


@runtime_checkable
class ChecksData(Protocol):
    """A spec that needs files or libraries which may not be there."""

    def check_data(self) -> None:
        """Look for them.

        Raises:
            InputError: If they are not where they should be (or FileNotFoundError, ValueError).
        """
        ...


@runtime_checkable
class PartOf(Protocol):
    """A spec whose runs can be prolonged: a longer one begins where a shorter one has ended."""

    def part_of(self, longer: Self) -> float | None:
        """Return what part of a longer run this one is, both being canonical.

        A runner that is given the checkpoints of a shorter run goes on to the end of its own spec.

        Returns:
            In (0, 1); None if they differ in more than their length.

        Raises:
            InputError: If a schedule depends on the length, naming it.
        """
        ...


@runtime_checkable
class Refused(Protocol):
    """A spec that may be wrong in a way which only the libraries of its runs can tell."""

    def refused_by(self) -> str:
        """Return an import string of a function that takes the spec; empty: there is no need.

        It is called in a process of its own, before any run, and raises InputError.
        """
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """A spec that names files whose content decides what the run is."""

    def files(self) -> Mapping[str, Path]:
        """Return these files by the field that names them."""
        ...


@runtime_checkable
class Expands(Protocol):
    """The class of a spec with presets: values that stand beneath those given."""

    EXPAND_READS: ClassVar[Sequence[str]]

    def expand(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return nested values with the preset's beneath them; a class method.

        Raises:
            ValueError: If there is no such preset, or it does not suit the rest.
        """
        ...


@runtime_checkable
class ChangedDefaults(Protocol):
    """The class of a spec whose defaults have changed since the first runs were named."""

    FIRST_DEFAULTS: ClassVar[Mapping[str, Any]]


class Runner(Protocol):
    """Does one run, in the process of a worker.

    One with an optional argument `checkpoints` is given the run's
    `sparse_core.checkpoints.Checkpoints` by that name, unless there are to be none.
    """

    def __call__(self, spec: Any, out: Path, progress: Progress, /) -> dict[str, Any]:
        """Do the run.

        Args:
            spec: What to do.
            out: An empty folder for what is worth keeping.
            progress: To be told at least once a second of work how far the run is.

        Returns:
            `score`, `curve` (pairs of x and y), `sparsity` (`requested`, `achieved`), `layers`
            (`name`, `active`, `total` of each), and whatever else JSON can hold. A run that holds
            data out returns the score on it as `valid_score`, by which `dst tune` chooses then.

        Raises:
            InputError: If only running could tell that the spec is wrong.
        """
        ...


class Episode(Protocol):
    """An episode that was played."""

    @property
    def steps(self) -> int:
        """Its length."""
        ...

    @property
    def score(self) -> float:
        """What it earned."""
        ...

    @property
    def task(self) -> int | None:
        """The task that was acted as; None: there is one only."""
        ...


class Player(Protocol):
    """Plays episodes of a finished run."""

    def __call__(
        self, spec: Any, output: Path, file: Path | None, seed: int, /
    ) -> Sequence[Episode]:
        """Play an episode of each task.

        Args:
            spec: What was run.
            output: The folder that the runner filled.
            file: Where to write the animation; None: show a window.
            seed: Seeds the environment.
        """
        ...


SPEC = "a dataclass with a field 'seed'"
RUNNER = "a function run(spec, out, progress)"
PLAYER = "a function enjoy(spec, output, file, seed)"
FIGURE = "a function draw(sheet), see sweeps.figures.sheet.Draw"
MEASURE = "a function of a result that returns a number or None"


def is_spec(found: object) -> TypeGuard[type[Any]]:
    """Whether an object is the class of a spec."""
    return (
        isinstance(found, type)
        and dataclasses.is_dataclass(found)
        and any(field.name == "seed" for field in dataclasses.fields(found))
    )


def is_runner(found: object) -> TypeGuard[Runner]:
    """Whether an object can be called as a runner is."""
    return takes(found, 3)


def takes_checkpoints(runner: Runner) -> bool:
    """Whether a runner has an argument for checkpoints."""
    try:
        return "checkpoints" in inspect.signature(runner).parameters
    except ValueError:  # some builtins have no signature
        return False


def is_part_of(spec: object) -> TypeGuard[PartOf]:
    """Whether runs of a spec can be prolonged."""
    return isinstance(spec, PartOf)


def is_player(found: object) -> TypeGuard[Player]:
    """Whether an object can be called as a player is."""
    return takes(found, 4)


def is_figure(found: object) -> bool:
    """Whether an object can be called as a figure of a report is."""
    return takes(found, 1)


def is_measure(found: object) -> bool:
    """Whether an object can be called to take a number from a result."""
    return takes(found, 1)


def presets_of(cls: object) -> Expands | None:
    """Return the class of a spec as one with presets; None if it has none."""
    return cls if isinstance(cls, Expands) else None


def first_defaults(cls: object) -> Mapping[str, Any]:
    """Return the first defaults of fields whose default has changed since."""
    return cls.FIRST_DEFAULTS if isinstance(cls, ChangedDefaults) else {}


def takes(found: object, count: int) -> bool:
    """Whether an object can be called with so many positional arguments."""
    if not callable(found):
        return False
    try:
        inspect.signature(found).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # some builtins have no signature
        return True
    return True
