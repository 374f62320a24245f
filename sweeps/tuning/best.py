"""What tuning came to: the best values of each method, as a grid to run with other seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sparse_core.strict_yaml import read_yaml
from sweeps.language.grid import Grid
from sweeps.language.search import Range, Space
from sweeps.tuning.cells import TunedCell
from sweeps.tuning.proposer import Proposer
from sweeps.tuning.studies import Study, Trial

EDGE = 0.05
"""Of a range: a best value so near its end may not be the best there is."""


def best_grid(
    grid: Grid,
    cells: Sequence[TunedCell],
    found: Mapping[str, Trial],
    trials: int,
    proposer: Proposer,
) -> str:
    """Return a grid with a block for each cell, its best values in it, and where they come from.

    Args:
        grid: The grid that was tuned.
        cells: Its cells.
        found: The best trial of each cell in which something was searched, by its identity.
        trials: How many each of them had.
        proposer: What proposed them.
    """
    fields = dict.fromkeys(name for cell in cells for name in cell.spaces)
    document: dict[str, Any] = {"name": f"{grid.name[:90]}-best"}
    if grid.header.question:
        document["question"] = grid.header.question
    document["tuned"] = {
        "grid": grid.name,
        "trials": trials,
        "seeds": list(grid.blocks[0].tuning_seeds),
        "fields": list(fields),
        "sampler": proposer.sampler,
        "pruner": proposer.pruner,
    }
    own = read_yaml(grid.text).get("kinds")
    if own:
        document["kinds"] = own
    document["blocks"] = [_block(cell, found.get(cell.identity)) for cell in cells]
    said = f"# The best of {trials} trials of each method of {grid.name}, by dst tune."
    body = yaml.safe_dump(
        json.loads(json.dumps(document, default=str)),
        sort_keys=False,
        default_flow_style=None,
        width=110,
        allow_unicode=True,
    )
    return f"{said}\n{body}"


def summary(cell: TunedCell, study: Study) -> str:
    """Say in a line how many trials a cell had, and which was the best."""
    trials = study.trials()
    counts = {
        state: count
        for state in ("pruned", "failed", "open")
        if (count := sum(trial.state == state for trial in trials))
    }
    said = "".join(f", {count} {state}" for state, count in counts.items())
    best = study.best()
    if best is None:
        return f"{cell.name}: {len(trials)} trials{said}: none has a score"
    values = ", ".join(f"{name} {value}" for name, value in best.values.items())
    edges = [name for name, space in cell.spaces.items() if _at_an_edge(space, best.numbers[name])]
    edge = f" ({', '.join(edges)} at the end of its range: it may be too narrow)" if edges else ""
    return f"{cell.name}: {len(trials)} trials{said}: best {best.score:.4g} with {values}{edge}"


def _block(cell: TunedCell, best: Trial | None) -> dict[str, Any]:
    seeds = cell.block.seeds
    return {
        "kind": cell.block.kind_name,
        "base": {**cell.values, **(best.values if best else {})},
        "seeds": len(seeds) if list(seeds) == list(range(len(seeds))) else list(seeds),
    }


def _at_an_edge(space: Space, number: Any) -> bool:
    if not isinstance(space, Range) or space.whole:
        return False
    return not EDGE <= space.place(number) <= 1 - EDGE
