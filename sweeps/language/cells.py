"""Cells: what runs that differ by seed alone have in common, worked out once for all of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sweeps.language import spec as specs

SEED = "seed"


class Cell:
    """A spec but for its seed.

    Args:
        kind_name: Name of its kind.
        spec: One of the specs, in its canonical form.
        sources: Hashes of the user's own modules and files that it names.
    """

    def __init__(self, kind_name: str, spec: Any, sources: Mapping[str, str]) -> None:
        self.kind_name = kind_name
        self.sources = sources
        self._spec = spec

    @cached_property
    def key(self) -> str:
        """What the runs of a cell share: 12 hexadecimal digits."""
        fields = {name: value for name, value in self._plain.items() if name != SEED}
        content = json.dumps([self.kind_name, fields, dict(self.sources)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @cached_property
    def shown(self) -> Mapping[str, Any]:
        """Fields by dotted name as a reader is shown them, without the seed."""
        return {name: value for name, value in specs.shown(self._spec).items() if name != SEED}

    @cached_property
    def in_force(self) -> Mapping[str, Any]:
        """See `sweeps.language.spec.in_force`."""
        return specs.in_force(self._spec)

    def plain(self, seed: int) -> dict[str, Any]:
        """Return all fields as JSON can hold them, with this seed."""
        return {**self._plain, SEED: seed}

    def run_id(self, seed: int) -> str:
        """Return the identity of the run with this seed."""
        changed = {name: value for name, value in self._changed.items() if name != SEED}
        if seed != self._first_seed:
            changed[SEED] = seed
        return specs.identity(self.kind_name, seed, changed, self.sources)

    def spec(self, seed: int, *, check: bool = True) -> Any:
        """Return the spec with this seed.

        Args:
            seed: The seed.
            check: Whether the spec is to look at it: not needed of a seed that others of the
                same kind have taken.

        Raises:
            InputError: If it cannot be a seed of such a run.
        """
        cls = type(self._spec)
        fields = dataclasses.fields(cls)
        if check or not all(field.init for field in fields):
            return dataclasses.replace(self._spec, seed=seed)
        copy = object.__new__(cls)
        for field in fields:
            value = seed if field.name == SEED else getattr(self._spec, field.name)
            object.__setattr__(copy, field.name, value)
        return copy

    @cached_property
    def _plain(self) -> dict[str, Any]:
        return specs.plain(self._spec)

    @cached_property
    def _changed(self) -> dict[str, Any]:
        return specs.changed(self._spec)

    @cached_property
    def _first_seed(self) -> Any:
        return specs.first_defaults(type(self._spec))[SEED]
