"""Which cells of a grid to leave out, if some of its combinations are no runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

MOST_ENTRIES = 6
"""Of a ready-made line: more cells than that are better described by blocks of their own."""

MOST_CELLS = 2_000
"""Of a grid that is searched for the shortest entries."""


def way_out(
    cells: Sequence[Mapping[str, Any]], is_valid: Callable[[int], bool], number: int
) -> str:
    """Say how to go on with the other cells if one is refused.

    Args:
        cells: What the axes set in each cell.
        is_valid: Whether a cell, by its number, can be run.
        number: The cell that was refused.

    Returns:
        The end of a message, the ready-made `exclude` of all cells that cannot be run, each entry
        as short as the grid allows. Empty if a value is wrong wherever it stands: mending it, not
        leaving cells out, is the way then.
    """
    if len(cells) > MOST_CELLS:
        return f"; this one can be left out with 'exclude: {_flow([cells[number]])}'"
    valid = [is_valid(place) for place in range(len(cells))]
    if _culprit(cells, valid, cells[number], 1) or not any(valid):
        return ""
    entries: list[Mapping[str, Any]] = []
    for cell, fine in zip(cells, valid, strict=True):
        if not fine and not any(_holds(cell, entry) for entry in entries):
            entries.append(_culprit(cells, valid, cell, len(cell)) or cell)
    if len(entries) > MOST_ENTRIES:
        return f"; leave out what cannot be run, first of all 'exclude: {_flow(entries[:1])}'"
    return f"; leave out what cannot be run with 'exclude: {_flow(entries)}', or use 'blocks'"


def _culprit(
    cells: Sequence[Mapping[str, Any]], valid: Sequence[bool], cell: Mapping[str, Any], most: int
) -> Mapping[str, Any] | None:
    """Return the fewest fields of a cell with which no cell is valid; None: more than `most`."""
    for part in _parts(cell, most):
        if not any(fine and _holds(other, part) for other, fine in zip(cells, valid, strict=True)):
            return part
    return None


def _parts(cell: Mapping[str, Any], most: int) -> Iterator[dict[str, Any]]:
    for size in range(1, most + 1):
        for names in itertools.combinations(cell, size):
            yield {name: cell[name] for name in names}


def _holds(cell: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    return all(name in cell and cell[name] == value for name, value in part.items())


def _flow(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return entries as YAML in one line."""
    plain = json.loads(json.dumps(entries, default=str))
    text: str = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.strip()
