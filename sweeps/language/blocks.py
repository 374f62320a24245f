"""Blocks: the part of a grid's file that stands for the runs of one kind.

    kind: rl
    base: {env: CartPole-v1, sparse.sparsity: 0.9}
    grid: {sparse.method: [set, rigl], sparse.distribution: [erk, uniform]}
    zip: {net_arch: [[64, 64], [256, 256]], steps: [20_000, 60_000]}
    exclude: [{sparse.method: set, sparse.distribution: uniform}]
    include: [{sparse.method: dense}]
    seeds: 3

A block's cells are the cartesian product of `grid`, and of the places in the lists of `zip` as one
more axis, over `base`, less what matches an entry of `exclude`, plus one for each entry of
`include`. `search` and `tuning_seeds` say how `dst tune` tunes each cell (`sweeps.tuning`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparse_core.checks import InputError
from sweeps.language import kinds
from sweeps.language import spec as specs
from sweeps.language.combinations import way_out
from sweeps.language.fields import check_keys, matches, read_entries, read_fields, read_seeds
from sweeps.language.kinds import Kind
from sweeps.language.search import Search, read_search

BLOCK_KEYS = (
    "kind",
    "base",
    "grid",
    "zip",
    "include",
    "exclude",
    "seeds",
    "search",
    "tuning_seeds",
)
MOST_RUNS = 100_000
"""Of a block: more were not meant, and would have to be held in memory all at once."""

Choice = Mapping[str, Any]
"""Fields that an axis sets together, dotted, with their values."""


@dataclass(frozen=True)
class Block:
    """What a block says, checked.

    Attributes:
        kind_name: Name of its kind.
        kind: The kind.
        spec_type: The class of its specs.
        cells: The fields of each cell, dotted, but for the seed.
        product: How many of the cells, from the first, are of the product of the axes.
        axes: The fields that the axes set.
        seeds: The seeds that each cell is run with.
        search: What `dst tune` searches; None: nothing.
        tuning_seeds: The seeds of the trials.
    """

    kind_name: str
    kind: Kind
    spec_type: type[Any]
    cells: tuple[Mapping[str, Any], ...]
    product: int
    axes: tuple[str, ...]
    seeds: Sequence[int]
    search: Search | None = None
    tuning_seeds: Sequence[int] = ()

    def specs(self) -> Iterator[Any]:
        """Yield the spec of each cell with the first of the seeds.

        Raises:
            InputError: If a cell is none; where others are, with the line that leaves it out.
        """
        for number, cell in enumerate(self.cells):
            try:
                spec = specs.load(self.spec_type, {**cell, "seed": self.seeds[0]})
            except InputError as error:
                raise self._refused(number, error) from error
            yield spec

    def _refused(self, number: int, error: InputError) -> InputError:
        if number >= self.product:
            return error.below("include") if error.field else InputError(f"include: {error}")
        cells = [
            {name: cell[name] for name in self.axes if name in cell}
            for cell in self.cells[: self.product]
        ]
        way = way_out(cells, lambda place: self._valid(self.cells[place]), number)
        return InputError(f"{error}{way}", error.field)

    def _valid(self, cell: Mapping[str, Any]) -> bool:
        try:
            specs.load(self.spec_type, {**cell, "seed": self.seeds[0]})
        except InputError:
            return False
        return True


def read_block(values: Any, own: Mapping[str, Kind]) -> Block:
    """Read a block.

    Args:
        values: What the file says.
        own: Kinds besides those of this project.

    Raises:
        InputError: If a key is unknown, or its value is not what it must be.
    """
    if not isinstance(values, dict):
        raise InputError(f"{values!r}: must be a mapping with {', '.join(BLOCK_KEYS)}")
    check_keys(values, BLOCK_KEYS)
    kind_name = values.get("kind")
    kind = kinds.find(kind_name, own)
    assert isinstance(kind_name, str)
    spec_type = kinds.spec_type(kind.spec)
    base = read_fields(spec_type, values.get("base", {}), "base")
    axes = [*_axes(spec_type, values.get("grid", {})), *_zipped(spec_type, values.get("zip", {}))]
    names = _names(axes)
    included = read_entries(spec_type, values.get("include", []), "include")
    excluded = read_entries(spec_type, values.get("exclude", []), "exclude")
    seeds = read_seeds("seeds", values.get("seeds", 1))
    count = (math.prod(map(len, axes)) + len(included)) * len(seeds)
    if count > MOST_RUNS:
        raise InputError(f"{count:,} runs: a block can have at most {MOST_RUNS:,}")
    product = [
        cell
        for cell in _product(base, axes, alone=not included)
        if not any(matches(spec_type, cell, entry) for entry in excluded)
    ]
    search, tuning_seeds = _tuning(spec_type, values, names, seeds)
    return Block(
        kind_name,
        kind,
        spec_type,
        (*product, *({**base, **entry} for entry in included)),
        len(product),
        names,
        seeds,
        search,
        tuning_seeds,
    )


def _tuning(
    spec_type: type[Any], values: Mapping[str, Any], axes: Sequence[str], seeds: Sequence[int]
) -> tuple[Search | None, Sequence[int]]:
    if "search" not in values and "tuning_seeds" not in values:
        return None, ()
    for key in ("search", "tuning_seeds"):
        if key not in values:
            raise InputError(f"{key}: must be given, for the block is to be tuned", field=key)
    tuning_seeds = read_seeds("tuning_seeds", values["tuning_seeds"], number=False)
    if both := sorted({*tuning_seeds} & {*seeds}):
        raise InputError(
            f"tuning_seeds={list(tuning_seeds)}: {both[0]} is among the seeds that are reported; "
            "the two must have none in common",
            field="tuning_seeds",
        )
    search = read_search(values["search"], spec_type)
    for name in search.names:
        if name in axes:
            raise InputError(f"search.{name}: is an axis of the grid too", field=f"search.{name}")
    return search, tuning_seeds


def _product(
    base: Mapping[str, Any], axes: Sequence[Sequence[Choice]], *, alone: bool
) -> Iterator[dict[str, Any]]:
    """Yield the combinations of the axes; without axes that is `base`, unless it is not alone."""
    if axes or alone:
        for chosen in itertools.product(*axes):
            yield dict(base) | {name: value for choice in chosen for name, value in choice.items()}


def _axes(spec_type: type[Any], values: Any) -> list[list[Choice]]:
    """Return the choices of each axis."""
    return [
        [read_fields(spec_type, {name: value}, "grid") for value in column]
        for name, column in _columns(values, "grid").items()
    ]


def _zipped(spec_type: type[Any], values: Any) -> list[list[Choice]]:
    """Return the one axis on which several fields go together; none if there are no fields."""
    columns = _columns(values, "zip")
    if not columns:
        return []
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"zip: must be lists of one length; {said}", field="zip")
    places = zip(*columns.values(), strict=True)
    rows = (dict(zip(columns, place, strict=True)) for place in places)
    return [[read_fields(spec_type, row, "zip") for row in rows]]


def _columns(values: Any, section: str) -> Mapping[str, list[Any]]:
    if not isinstance(values, dict):
        raise InputError(
            f"{section}={values!r}: must be a mapping of fields to lists of values", field=section
        )
    for name, column in values.items():
        if not isinstance(column, list) or not column:
            raise InputError(f"{section}.{name}={column!r}: must be a list of at least one value")
    return values


def _names(axes: Sequence[Sequence[Choice]]) -> tuple[str, ...]:
    """Return the fields that the axes set, each by one of them."""
    sets = [dict.fromkeys(name for choice in axis for name in choice) for axis in axes]
    for one, other in itertools.combinations(sets, 2):
        for name in one:
            if name in other:
                raise InputError(f"{name}: is on two axes of the grid", field=name)
    return tuple(name for names in sets for name in names)
