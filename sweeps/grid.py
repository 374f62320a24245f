"""Grids: a YAML file that stands for a list of runs.

    name: quickstart
    blocks:
      - kind: rl
        base: {env: CartPole-v1, sparse.sparsity: 0.9}
        grid: {sparse.method: [set, rigl], sparse.distribution: [erk, uniform]}
        include: [{sparse.method: dense}]
        exclude: [{sparse.method: set, sparse.distribution: uniform}]
        seeds: 3

A block's combinations are the cartesian product of `grid` over `base`, less what matches an entry
of `exclude`, plus one for each entry of `include`; each is run with every seed. A file with a
single block may have its keys at the top. Runs that say the same once canonical are one run.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sparse_core.strict_yaml import read_yaml
from sweeps import hooks, kinds
from sweeps import spec as specs
from sweeps.kinds import Kind
from sweeps.sources import Fingerprints
from sweeps.spec import unknown

BLOCK_KEYS = ("kind", "base", "grid", "include", "exclude", "seeds")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{,99}")
MOST_RUNS = 100_000
"""Of a block: more were not meant, and would have to be held in memory all at once."""


@dataclass(frozen=True)
class Run:
    """One run: a canonical spec of a kind, and its identity.

    Attributes:
        kind_name: Name of its kind.
        kind: The kind.
        spec: What is run.
        run_id: Its identity.
        sources: Hashes of the user's own modules and files that it names.
    """

    kind_name: str
    kind: Kind
    spec: Any
    run_id: str
    sources: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return what a worker needs to know, as JSON can hold it."""
        return {
            "run_id": self.run_id,
            "kind": self.kind_name,
            "spec_type": self.kind.spec,
            "runner": self.kind.runner,
            "spec": specs.plain(self.spec),
            **({"sources": dict(self.sources)} if self.sources else {}),
        }

    def check_data(self) -> None:
        """Let a spec that needs files look for them before anything is run.

        Raises:
            InputError: If they are not where they should be.
        """
        if isinstance(self.spec, hooks.ChecksData):
            try:
                self.spec.check_data()
            except (FileNotFoundError, ValueError) as error:
                raise InputError(str(error)) from error


@dataclass(frozen=True)
class Grid:
    """A named list of different runs, in the order of the file."""

    name: str
    runs: tuple[Run, ...]
    reference: str
    text: str


def make_run(
    kind_name: str, kind: Kind, spec: Any, fingerprints: Fingerprints | None = None
) -> Run:
    """Return the run of a spec in its canonical form.

    Args:
        kind_name: Name of its kind.
        kind: The kind.
        spec: What is to be run.
        fingerprints: Hashes that are known, where many runs are made.

    Raises:
        InputError: If a file that the spec names is not there.
    """
    spec = specs.canonical(spec)
    references = (kind_name, kind.spec, kind.runner)
    found = (fingerprints or Fingerprints()).of(references, spec)
    return Run(kind_name, kind, spec, specs.canonical_id(kind_name, spec, found), found)


def packaged() -> list[str]:
    """Return the names of the grids that come with the package."""
    folder = resources.files("sweeps") / "grids"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_grid(reference: str) -> Grid:
    """Read a grid from a YAML file, or by name from the packaged ones.

    Raises:
        InputError: If there is no such grid, or anything in it is wrong: file, block and key are
            named.
    """
    text = _text_of(reference)
    try:
        return parse(text, reference)
    except InputError as error:
        raise InputError(f"{reference}: {error}") from error


def _text_of(reference: str) -> str:
    path = Path(reference)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"grid {reference!r}: cannot be read: {error}") from error
    if reference in packaged():
        return (resources.files("sweeps") / "grids" / f"{reference}.yaml").read_text("utf-8")
    names = ", ".join(packaged())
    raise InputError(f"grid {reference!r}: no such file, and no packaged grid (those: {names})")


def parse(text: str, reference: str = "") -> Grid:
    """Read a grid from YAML text.

    Raises:
        InputError: If anything in it is wrong; block and key are named.
    """
    document = read_yaml(text)
    if not isinstance(document, dict):
        raise InputError("must be a mapping with 'name' and 'blocks'")
    single = "blocks" not in document
    for key in BLOCK_KEYS:
        if key in document and not single:
            raise InputError(f"{key}: with 'blocks' it belongs into one of them")
    _check_keys(document, ("name", "kinds", *(BLOCK_KEYS if single else ["blocks"])), "")
    name = document.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(
            f"name={name!r}: must be text of letters, digits, '.', '_' and '-', at most 100",
            field="name",
        )
    own = _own_kinds(document.get("kinds", {}))
    blocks = [{key: document[key] for key in BLOCK_KEYS if key in document}]
    if not single:
        blocks = document["blocks"]
        if not isinstance(blocks, list) or not blocks:
            raise InputError("blocks: must be a list of at least one block")
    runs: dict[str, Run] = {}
    fingerprints = Fingerprints()
    for number, block in enumerate(blocks, start=1):
        try:
            for run in _expand(block, own, fingerprints):
                runs.setdefault(run.run_id, run)
        except InputError as error:
            raise InputError(f"{error}" if single else f"block {number}: {error}") from error
    if not runs:
        raise InputError("exclude: leaves no run at all")
    return Grid(name, tuple(runs.values()), reference or name, text)


def _own_kinds(values: Any) -> dict[str, Kind]:
    if not isinstance(values, dict):
        raise InputError(f"kinds={values!r}: must be a mapping of names to kinds", field="kinds")
    own = {}
    for name, fields in values.items():
        if not isinstance(fields, dict):
            raise InputError(f"kinds.{name}={fields!r}: must be a mapping with 'spec' and 'runner'")
        try:
            own[str(name)] = specs.load(Kind, fields)
            kinds.check(own[str(name)])
        except InputError as error:
            raise error.below(f"kinds.{name}") from error
    return own


def _expand(block: Any, own: Mapping[str, Kind], fingerprints: Fingerprints) -> Iterator[Run]:
    if not isinstance(block, dict):
        raise InputError(f"{block!r}: must be a mapping with {', '.join(BLOCK_KEYS)}")
    _check_keys(block, BLOCK_KEYS, "")
    kind_name = block.get("kind")
    kind = kinds.find(kind_name, own)
    assert isinstance(kind_name, str)
    spec_type = kinds.spec_type(kind.spec)
    base = _fields(spec_type, block.get("base", {}), "base")
    axes = _axes(spec_type, block.get("grid", {}))
    included = _entries(spec_type, block, "include")
    excluded = _entries(spec_type, block, "exclude")
    seeds = _seeds(block.get("seeds", 1))
    count = (math.prod(map(len, axes)) + len(included)) * len(seeds)
    if count > MOST_RUNS:
        raise InputError(f"{count:,} runs: a block can have at most {MOST_RUNS:,}")
    combinations = [
        {**base, **dict(itertools.chain.from_iterable(choice))}
        for choice in itertools.product(*axes)
        if axes or not included
    ]
    combinations = [
        values
        for values in combinations
        if not any(_matches(spec_type, values, entry) for entry in excluded)
    ]
    combinations += [{**base, **entry} for entry in included]
    for values in combinations:
        for seed in seeds:
            try:
                spec = specs.load(spec_type, {**values, "seed": seed})
            except InputError as error:
                raise _of_combination(error, spec_type, values, combinations) from error
            yield make_run(kind_name, kind, spec, fingerprints)


def _of_combination(
    error: InputError,
    spec_type: type[Any],
    values: Mapping[str, Any],
    combinations: Sequence[Mapping[str, Any]],
) -> InputError:
    """Return an error with a way out if its field's value is only wrong beside other values."""
    name = error.field or ""
    for other in combinations:
        if name in values and other.get(name, ...) == values[name]:
            with contextlib.suppress(InputError):
                specs.load(spec_type, other)
                return InputError(
                    f"{error}; leave this combination out with 'exclude', or use 'blocks'",
                    field=name,
                )
    return error


def _axes(spec_type: type[Any], values: Any) -> list[list[list[tuple[str, Any]]]]:
    """Return, for each axis, its choices; a choice is a list of fields and values."""
    if not isinstance(values, dict):
        raise InputError(
            f"grid={values!r}: must be a mapping of fields to lists of values", field="grid"
        )
    axes = []
    for name, choices in values.items():
        if not isinstance(choices, list) or not choices:
            raise InputError(f"grid.{name}={choices!r}: must be a list of at least one value")
        axes.append(
            [list(_fields(spec_type, {name: choice}, "grid").items()) for choice in choices]
        )
    return axes


def _entries(spec_type: type[Any], block: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = block.get(key, [])
    if not isinstance(entries, list) or not all(entry for entry in entries):
        raise InputError(
            f"{key}={entries!r}: must be a list of mappings of fields to values", field=key
        )
    return [_fields(spec_type, entry, key) for entry in entries]


def _fields(spec_type: type[Any], values: Any, section: str) -> dict[str, Any]:
    """Return dotted fields and coerced values; errors name the section and the field."""
    if not isinstance(values, dict):
        raise InputError(
            f"{section}={values!r}: must be a mapping of fields to values", field=section
        )
    if "seed" in values:
        raise InputError(f"{section}.seed: give 'seeds' of the block instead")
    try:
        flat = specs.flatten(values)
        return {name: specs.coerce_field(spec_type, name, flat[name]) for name in flat}
    except InputError as error:
        raise error.below(section) from error


def _matches(spec_type: type[Any], values: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    return all(
        (values[name] if name in values else specs.default(spec_type, name)) == wanted
        for name, wanted in entry.items()
    )


def _seeds(value: Any) -> Sequence[int]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return range(value)
    is_list = isinstance(value, list) and bool(value)
    if is_list and all(type(seed) is int and seed >= 0 for seed in value):
        return list(dict.fromkeys(value))
    raise InputError(
        f"seeds={value!r}: must be a number of at least 1, or a list of seeds >= 0", field="seeds"
    )


def _check_keys(values: Mapping[Any, Any], allowed: tuple[str, ...], prefix: str) -> None:
    for key in values:
        if key not in allowed:
            raise InputError(f"{prefix}{key}: {unknown(str(key), allowed)}")
