"""What a report needs to know of one finished run, taken from its result and kept in little memory.

Results of thousands of runs do not fit into memory as JSON's objects: curves become arrays, texts
that runs share are kept once, and of all else only what a figure asks for by name is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from sys import intern
from typing import Any, NamedTuple

import numpy as np

from sparse_core.checks import InputError
from sweeps.language import kinds
from sweeps.language.kinds import Kind
from sweeps.results.stats import Floats
from sweeps.store.pace import seconds_at
from sweeps.store.validity import is_curve, is_number

MEASURED = ("wall_s", "cpu_s", "setup_s", "peak_rss_mb")
ORIGIN = ("git", "sources", "cpu", "platform", "cpus", "threads", "versions")
"""What reports say of where results come from."""


class Layer(NamedTuple):
    """One layer of a run's networks.

    Attributes:
        name: Its name, that of its network before it.
        active: Active weights.
        total: All weights.
        neurons: Its neurons; None: not said.
        live: Neurons with an active weight; None: not said.
        explored: Fraction of the weights that have ever been active; None: not said.
    """

    name: str
    active: int
    total: int
    neurons: int | None = None
    live: int | None = None
    explored: float | None = None

    @property
    def density(self) -> float:
        """Active over all weights."""
        return self.active / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """A finished run; scores and the kind's further numbers are in percent if the kind says so.

    Attributes:
        seed: Its seed.
        score: Its score.
        reported: The same as the result has it.
        curve: x and y of its curve, `(points, 2)`.
        seconds: CPU seconds of the run up to each point, `(points,)`; None: not known.
        panels: The same as `curve` of the kind's further curves, those that it has.
        extra: The kind's further numbers; None: it has none.
        sparsity: `requested` and `achieved`, perhaps `active` and `total` weights.
        layers: Its layers.
        updates: Updates of the topology that moved least; None: no method has any.
        still: In words, which topologies never moved; empty: all that can have.
        measured: Wall and CPU seconds and peak memory, by their names in the provenance.
        origin: The entries `ORIGIN` of its provenance, shared among runs that are alike in them.
        named: What figures asked for, by the names in the result.
    """

    seed: int
    score: float
    reported: float
    curve: Floats
    seconds: Floats | None
    panels: Mapping[str, Floats]
    extra: Mapping[str, float | None]
    sparsity: Mapping[str, float]
    layers: tuple[Layer, ...]
    updates: int | None
    still: str
    measured: Mapping[str, float]
    origin: Mapping[str, Any]
    named: Mapping[str, Any]


def distil(kind: Kind, seed: int, result: Mapping[str, Any], named: Iterable[str] = ()) -> Facts:
    """Return the facts of a valid result.

    Args:
        kind: The run's kind.
        seed: The run's seed.
        result: What `RunDir.result` returns.
        named: Further entries of the result that are to be kept, where there are any.

    Raises:
        InputError: If a function of the user's own fails.
    """
    factor = 100.0 if kind.percent else 1.0
    origin = result["provenance"]
    curve = _curve(result.get(kind.curve)) * [1.0, factor]
    panels = {key: found for key, *_ in kind.panels if len(found := _curve(_inner(result, key)))}
    return Facts(
        seed=seed,
        score=factor * result["score"],
        reported=result["score"],
        curve=curve,
        seconds=seconds_at(curve[:, 0], origin),
        panels=panels,
        extra=extra(kind, result),
        sparsity=dict(result["sparsity"]),
        layers=tuple(_layer(layer) for layer in result["layers"]),
        updates=updates(result),
        still=still(result),
        measured={name: origin[name] for name in MEASURED if is_number(origin.get(name))},
        origin=_origin(json.dumps({name: origin[name] for name in ORIGIN if name in origin})),
        named={name: value for name in named if (value := result.get(name)) is not None},
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


def _layer(layer: Mapping[str, Any]) -> Layer:
    neurons, live, explored = (
        value if is_number(value := layer.get(key)) else None
        for key in ("neurons", "live", "explored")
    )
    return Layer(
        intern(str(layer["name"])),
        int(layer["active"]),
        int(layer["total"]),
        None if neurons is None else int(neurons),
        None if live is None else int(live),
        explored,
    )


def _curve(points: Any) -> Floats:
    """Return a curve as `(points, 2)`; empty if this is none."""
    return np.asarray(points if is_curve(points) else (), dtype=float).reshape(-1, 2)


def _inner(result: Mapping[str, Any], key: str) -> Any:
    """Return what a dotted key names; None if there is no such thing."""
    found: Any = result
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


@cache
def _origin(text: str) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found
