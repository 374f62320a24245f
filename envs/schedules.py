"""How a quantity of a world goes with the number of steps taken in it: four kinds of schedule.

A schedule gives a factor: 1 leaves the quantity as the environment came with it. All factors are
positive, and a schedule knows the least and the largest of them.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from sparse_core.checks import InputError, fraction, one_of, positive_float, whole
from sparse_core.imports import is_reference, load

Path = Callable[[int], NDArray[np.float64]]
"""Number of steps taken -> factors, (size,)."""


class Schedule(Protocol):
    """What a schedule must have.

    One with an attribute `jumps` that is true keeps its factor for a time and then has another at a
    stroke; all others drift.
    """

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest factor."""

    def path(self, rng: np.random.Generator, size: int) -> Path:
        """Return the factors of `size` quantities; what is random comes from `rng`."""


@dataclass(frozen=True)
class Step:
    """Another factor every so many steps; after the last one the first again.

    Attributes:
        factors: In turn; a single one never changes.
        every: Steps that each holds.
    """

    factors: Sequence[float]
    every: int = 1

    kind: ClassVar[str] = "step"
    jumps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.factors, (str, Mapping)) or not isinstance(self.factors, Sequence):
            raise InputError(
                f"factors={self.factors!r}: must be a list of positive numbers", field="factors"
            )
        if not self.factors:
            raise InputError("factors=[]: must have at least one", field="factors")
        checked = tuple(positive_float("factors", factor) for factor in self.factors)
        object.__setattr__(self, "factors", checked)
        object.__setattr__(self, "every", whole("every", self.every, 1))

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest factor."""
        return min(self.factors), max(self.factors)

    def factor(self, clock: int) -> float:
        """Return the factor after `clock` steps."""
        return self.factors[clock // self.every % len(self.factors)]

    def path(self, rng: np.random.Generator, size: int) -> Path:
        """Return the factors of `size` quantities, the same for each."""
        return _Same(self.factor, size)


@dataclass(frozen=True)
class Linear:
    """From one factor to another in a straight line; there it stays.

    Attributes:
        last: Factor in the end.
        over: Steps between the two.
        first: Factor in the beginning.
        after: Steps before it begins to move.
    """

    last: float
    over: int
    first: float = 1.0
    after: int = 0

    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            object.__setattr__(self, name, positive_float(name, getattr(self, name)))
        object.__setattr__(self, "over", whole("over", self.over, 1))
        object.__setattr__(self, "after", whole("after", self.after, 0))

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest factor."""
        return min(self.first, self.last), max(self.first, self.last)

    def factor(self, clock: int) -> float:
        """Return the factor after `clock` steps."""
        gone = (clock - self.after) / self.over
        if gone <= 0:
            return self.first
        if gone >= 1:
            return self.last
        low, high = self.bounds
        return min(max(self.first + gone * (self.last - self.first), low), high)

    def path(self, rng: np.random.Generator, size: int) -> Path:
        """Return the factors of `size` quantities, the same for each."""
        return _Same(self.factor, size)


@dataclass(frozen=True)
class Sine:
    """Up and down around 1: 1 + amplitude * sin(2 pi clock / period).

    Attributes:
        amplitude: In [0, 1).
        period: Steps of a whole wave.
    """

    amplitude: float
    period: int

    kind: ClassVar[str] = "sine"

    def __post_init__(self) -> None:
        object.__setattr__(self, "amplitude", fraction("amplitude", self.amplitude))
        object.__setattr__(self, "period", whole("period", self.period, 1))

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest factor."""
        return 1 - self.amplitude, 1 + self.amplitude

    def factor(self, clock: int) -> float:
        """Return the factor after `clock` steps."""
        return 1 + self.amplitude * math.sin(2 * math.pi * (clock % self.period) / self.period)

    def path(self, rng: np.random.Generator, size: int) -> Path:
        """Return the factors of `size` quantities, the same for each."""
        return _Same(self.factor, size)


@dataclass(frozen=True)
class RandomWalk:
    """A random walk of the factor's logarithm from 0, thrown back at its bounds.

    Attributes:
        scale: Standard deviation of a move of the logarithm.
        every: Steps between two moves.
        low: Least factor, at most 1.
        high: Largest factor, at least 1.
    """

    scale: float
    every: int = 1
    low: float = 0.5
    high: float = 2.0

    kind: ClassVar[str] = "random-walk"

    def __post_init__(self) -> None:
        for name in ("scale", "low", "high"):
            object.__setattr__(self, name, positive_float(name, getattr(self, name)))
        object.__setattr__(self, "every", whole("every", self.every, 1))
        if self.low > 1:
            raise InputError(f"low={self.low!r}: must be at most 1", field="low")
        if self.high < 1:
            raise InputError(f"high={self.high!r}: must be at least 1", field="high")

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest factor."""
        return self.low, self.high

    def path(self, rng: np.random.Generator, size: int) -> Path:
        """Return the factors of `size` quantities, each of which walks by itself."""
        return _Walk(self, rng, size)


class _Same:
    """One factor for all quantities."""

    def __init__(self, factor: Callable[[int], float], size: int) -> None:
        self.factor = factor
        self.factors = np.full(size, factor(0))

    def __call__(self, clock: int) -> NDArray[np.float64]:
        factor = self.factor(clock)
        if factor != self.factors[0]:
            self.factors = np.full(self.factors.size, factor)
        return self.factors


class _Walk:
    """Where a random walk has got to; a clock that was put back makes it walk the same way anew."""

    def __init__(self, walk: RandomWalk, rng: np.random.Generator, size: int) -> None:
        self.walk, self.size = walk, size
        self.origin = copy.deepcopy(rng)
        self.rng: np.random.Generator
        self.logarithms: NDArray[np.float64]
        self.factors: NDArray[np.float64]
        self.moves: int
        self._restart()

    def __call__(self, clock: int) -> NDArray[np.float64]:
        wanted = clock // self.walk.every
        if wanted == self.moves:
            return self.factors
        if wanted < self.moves:
            self._restart()
        while self.moves < wanted:
            step = self.walk.scale * self.rng.standard_normal(self.size)
            self.logarithms = self._thrown_back(self.logarithms + step)
            self.moves += 1
        if self.moves:
            self.factors = np.clip(np.exp(self.logarithms), *self.walk.bounds)
        return self.factors

    def _restart(self) -> None:
        self.rng = copy.deepcopy(self.origin)
        self.logarithms = np.zeros(self.size)
        self.factors = np.ones(self.size)
        self.moves = 0

    def _thrown_back(self, logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = map(math.log, self.walk.bounds)
        width = high - low
        if width == 0:
            return np.zeros(self.size)
        folded: NDArray[np.float64] = np.abs((logarithms - low) % (2 * width) - width)
        return low + width - folded


SCHEDULES: Mapping[str, type[Step] | type[Linear] | type[Sine] | type[RandomWalk]] = {
    made.kind: made for made in (Step, Linear, Sine, RandomWalk)
}
"""Those that a configuration can name, by kind."""


def schedule(field: str, value: object) -> Schedule:
    """Return a schedule, made from a mapping of its kind and its settings or given as it is.

    Args:
        field: Named in errors.
        value: A schedule; or such as `{"kind": "linear", "last": 2.0, "over": 100_000}`, in which
            the kind may also be `package.module:NAME` of a class or function that returns one.

    Raises:
        InputError: If there is no such kind, or a setting is wrong or missing.
    """
    if not isinstance(value, Mapping):
        return _checked(field, value, value)
    settings = dict(value)
    kind = settings.pop("kind", None)
    made_by: Callable[..., Any]
    if isinstance(kind, str) and is_reference(kind):
        made_by = load(f"{field}.kind", kind, "a class or function that returns a schedule")
    else:
        one_of(f"{field}.kind", kind, SCHEDULES)
        made_by = SCHEDULES[kind]
    try:
        inspect.signature(made_by).bind(**settings)
    except TypeError as error:
        takes = ", ".join(inspect.signature(made_by).parameters)
        raise InputError(
            f"{field}={dict(value)!r}: {error}; {kind} takes {takes}", field=field
        ) from None
    try:
        return _checked(field, value, made_by(**settings))
    except InputError as error:
        raise error.below(field) if error.concerns(settings) else error from None


def jumps(schedule: Schedule) -> bool:
    """Return whether a schedule changes at a stroke rather than drifts."""
    return bool(getattr(schedule, "jumps", False))


def as_mapping(schedule: Schedule) -> dict[str, Any] | Schedule:
    """Return the mapping that a schedule can be made from again; one of another's stays itself."""
    if not isinstance(schedule, (Step, Linear, Sine, RandomWalk)):
        return schedule
    settings = dataclasses.asdict(schedule)
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()}
    return {"kind": schedule.kind} | plain


def _checked(field: str, value: object, made: object) -> Schedule:
    if isinstance(made, type) or not callable(getattr(made, "path", None)):
        raise InputError(
            f"{field}={value!r}: must be a schedule, or a mapping with kind and its settings",
            field=field,
        )
    low, high = made.bounds  # type: ignore[attr-defined]
    if not 0 < low <= high:
        raise InputError(
            f"{field}={value!r}: its bounds must be positive, not {low:g} to {high:g}", field=field
        )
    found: Schedule = made  # type: ignore[assignment]
    return found
