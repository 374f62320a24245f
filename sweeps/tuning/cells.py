"""The cells of a grid that are tuned, each by a study of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparse_core.checks import InputError
from sweeps.language import spec as specs
from sweeps.language.axes import Axes
from sweeps.language.blocks import Block
from sweeps.language.grid import Grid, Run, make_run
from sweeps.language.search import Space
from sweeps.language.sources import Fingerprints
from sweeps.results.progress import cell_name


@dataclass(frozen=True)
class TunedCell:
    """A cell of a block, and what is searched in it.

    Attributes:
        block: The block.
        values: The cell's fields that are not searched, dotted.
        spaces: The space of each field that is searched: those that play a part in the cell's runs.
        name: What it is called beside the others.
        identity: Of its study: it changes with all that decides what its trials are.
    """

    block: Block
    values: Mapping[str, Any]
    spaces: Mapping[str, Space]
    name: str
    identity: str

    def runs(self, found: Mapping[str, Any]) -> list[Run]:
        """Return the runs of a trial, one for each tuning seed.

        Args:
            found: The values of the fields that are searched.

        Raises:
            InputError: If the values do not go together.
        """
        fingerprints = Fingerprints()
        return [
            _run(self.block, {**self.values, **found}, seed, fingerprints)
            for seed in self.block.tuning_seeds
        ]


def tuned_cells(grid: Grid) -> list[TunedCell]:
    """Return the cells of a grid, those that come to the same run once.

    Raises:
        InputError: If there is a block without `search`, if two blocks have different tuning seeds,
            or if the end of a range cannot be run in a cell.
    """
    found: dict[str, tuple[Block, Mapping[str, Any], Mapping[str, Space], Run]] = {}
    for block in grid.blocks:
        if block.search is None:
            raise InputError(
                f"grid {grid.name!r}: search: must be given in each block that is to be tuned",
                field="search",
            )
        if tuple(block.tuning_seeds) != tuple(grid.blocks[0].tuning_seeds):
            raise InputError(
                f"tuning_seeds={list(block.tuning_seeds)}: must be the same in all blocks",
                field="tuning_seeds",
            )
        for cell in block.cells:
            asked = block.search.of(block.spec_type, cell)
            values = {name: value for name, value in cell.items() if name not in asked}
            spaces = _that_matter(block, values, asked)
            first = {name: space.ends()[0] for name, space in spaces.items()}
            run = _run(block, {**values, **first}, 0, Fingerprints())
            found.setdefault(
                _identity(run, spaces, block.tuning_seeds), (block, values, spaces, run)
            )
    names = _names([run for *_, run in found.values()])
    return [
        TunedCell(block, values, spaces, names[run.run_id], identity)
        for identity, (block, values, spaces, run) in found.items()
    ]


def _that_matter(
    block: Block, values: Mapping[str, Any], asked: Mapping[str, Space]
) -> dict[str, Space]:
    """Leave out every field whose value changes nothing, as an update interval of a dense run."""
    first = {name: space.ends()[0] for name, space in asked.items()}
    kept = {}
    for name, space in asked.items():
        ids = set()
        for end in space.ends():
            try:
                run = _run(block, {**values, **first, name: end}, 0, Fingerprints())
            except InputError as error:
                raise InputError(f"search.{name}: {error}", field=f"search.{name}") from error
            ids.add(run.run_id)
        if len(ids) > 1:
            kept[name] = space
    return kept


def _run(block: Block, values: Mapping[str, Any], seed: int, fingerprints: Fingerprints) -> Run:
    spec = specs.load(block.spec_type, {**values, "seed": seed})
    return make_run(block.kind_name, block.kind, spec, fingerprints)


def _identity(run: Run, spaces: Mapping[str, Space], seeds: Sequence[int]) -> str:
    said = [run.run_id, sorted((name, repr(space)) for name, space in spaces.items()), list(seeds)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


def _names(runs: Sequence[Run]) -> dict[str, str]:
    kinds = dict.fromkeys(run.kind_name for run in runs)
    axes = {name: Axes([run for run in runs if run.kind_name == name]) for name in kinds}
    return {run.run_id: cell_name(run, axes[run.kind_name]) for run in runs}
