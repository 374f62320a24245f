"""Results as data: a row for each run, and all curves in one long table.

    runs = sweeps.load("runs/mine")
    runs.groupby("sparse.method")["score"].describe()

    curves = sweeps.curves("runs/mine")
    curves[curves.metric == "curve"].pivot_table("value", "step", "run")

Tables are pandas', which is an optional part: `pip install 'dstrl[data]'`. `run_rows` and
`curve_rows` return the same as plain records.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparse_core.checks import InputError
from sweeps.results.facts import updates
from sweeps.store import folder as folders
from sweeps.store.pace import seconds_at
from sweeps.store.validity import is_curve, is_number

if TYPE_CHECKING:
    from pandas import DataFrame

CURVE_COLUMNS = ("run", "metric", "step", "seconds", "value")
_APART = {"score", "curve", "sparsity", "layers", "spec", "run_id", "kind", "provenance"}
_SEED = "seed"


def load(folder: str | os.PathLike[str]) -> DataFrame:
    """Return the runs in a folder, one a row, done or not.

    Columns are `run`, `kind` and `state`; the fields of the spec by dotted name, first those in
    which the runs differ (`frame.attrs["axes"]` names them) and the seed; `score`, `sparsity.*`,
    `active_weights`, `total_weights`, `updates`, and every other number of the result;
    `provenance.*`: seconds, memory, commit, machine and versions.

    Args:
        folder: The folder of a sweep, such as `runs/mine`.

    Raises:
        InputError: If it holds no runs, or pandas is not installed.
    """
    pandas = _pandas()
    rows = run_rows(folder)
    frame: DataFrame = pandas.DataFrame.from_records(rows)
    frame.attrs["axes"] = axes(rows)
    return frame


def curves(folder: str | os.PathLike[str]) -> DataFrame:
    """Return all curves of the finished runs in a folder as one long table.

    Columns are `run` (its identity), `metric` (`curve`, `plasticity.churn`, `curves.2`, ...),
    `step` (what x is), `seconds` (CPU seconds of the run up to there, evaluations included unless
    the run had a limit of time; of `curve` alone) and `value`.

    Args:
        folder: The folder of a sweep, such as `runs/mine`.

    Raises:
        InputError: If it holds no runs, or pandas is not installed.
    """
    pandas = _pandas()
    frame: DataFrame = pandas.DataFrame(list(curve_rows(folder)), columns=list(CURVE_COLUMNS))
    return frame


def run_rows(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the rows of `load` as records.

    Raises:
        InputError: If the folder holds no runs.
    """
    found = []
    for directory, record in folders.records(Path(folder)):
        seen = directory.look()
        head = {"run": record["run_id"], "kind": record["kind"], "state": seen.state.value}
        found.append((head, folders.fields(record), _numbers(seen.result or {})))
    varying = _varying([(head["kind"], fields) for head, fields, _ in found])
    return [
        head
        | {name: _cell(fields.get(name)) for name in (*varying, _SEED)}
        | {name: _cell(value) for name, value in fields.items() if name not in varying}
        | numbers
        for head, fields, numbers in found
    ]


def curve_rows(folder: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of `curves` as records.

    Raises:
        InputError: If the folder holds no runs.
    """
    for directory, record in folders.records(Path(folder)):
        result = directory.look().result or {}
        for name, points, seconds in _curves(result):
            for place, (step, value) in enumerate(points):
                spent = None if seconds is None else seconds[place]
                values = (record["run_id"], name, step, spent, value)
                yield dict(zip(CURVE_COLUMNS, values, strict=True))


def axes(rows: list[dict[str, Any]]) -> list[str]:
    """Return the fields in which runs differ, but for the seed: the columns before it."""
    columns = list(rows[0])
    return columns[columns.index("state") + 1 : columns.index(_SEED)]


def _numbers(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a result says in single numbers."""
    if not result:
        return {}
    layers, origin = result["layers"], result["provenance"]
    numbers = {
        "score": result["score"],
        **{f"sparsity.{name}": value for name, value in result["sparsity"].items()},
        "active_weights": sum(layer["active"] for layer in layers),
        "total_weights": sum(layer["total"] for layer in layers),
        "updates": updates(result),
    }
    for name, value in result.items():
        if name not in _APART and is_number(value):
            numbers[name] = value
    for name, value in _flat(origin):
        numbers[f"provenance.{name}"] = value
    return numbers


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, (list, tuple)):
            yield prefix + name, value


def _curves(result: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each curve of a result: its dotted name, its points, and the seconds of each."""
    timed = result.get("curve_seconds")
    main = np.asarray(result.get("curve", ()), dtype=float).reshape(-1, 2)
    spent = seconds_at(main[:, 0], result.get("provenance", {}))
    if timed is not None and is_curve(timed) and len(timed) == len(main):
        spent = np.asarray(timed, dtype=float)[:, 0]
    for name, points in _named_curves({k: v for k, v in result.items() if k != "curve_seconds"}):
        yield name, points, spent.tolist() if name == "curve" and spent is not None else None


def _named_curves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        inner = ((key, item) for key, item in value.items() if key not in ("spec", "provenance"))
    elif isinstance(value, (list, tuple)):
        if value and (_is_long(value) or name == "curve"):
            yield name, value
            return
        inner = ((str(place), item) for place, item in enumerate(value))
    else:
        return
    for key, item in inner:
        if isinstance(item, (Mapping, list, tuple)):
            yield from _named_curves(item, f"{name}.{key}" if name else key)


def _is_long(value: Any) -> bool:
    """Whether a list is a curve rather than two columns of a matrix: x counts, and ascends."""
    return is_curve(value) and all(
        type(one[0]) is int and one[0] < other[0] for one, other in itertools.pairwise(value)
    )


def _varying(found: list[tuple[Any, dict[str, Any]]]) -> list[str]:
    """Return the fields, but for the seed, in which runs of one kind differ."""
    first: dict[Any, dict[str, Any]] = {}
    names: dict[str, None] = {}
    for kind, fields in found:
        like = first.setdefault(kind, fields)
        for name in (*fields, *like):
            if name != _SEED and fields.get(name) != like.get(name):
                names[name] = None
    return list(names)


def _cell(value: Any) -> Any:
    """Return a value as a table can hold it: what is not a single one as its text."""
    return str(value) if isinstance(value, (list, tuple, Mapping)) else value


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise InputError("pandas: is not installed: pip install 'dstrl[data]'") from error
    return pandas
