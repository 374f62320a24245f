"""Tables of `docs/results/speed.md` from records: `python -m sweeps.bench.tables FILE...`.

The files are what `dst bench kernels`, `layers` or `rl` wrote with `--json`, of one run or of
several runs of the same command; of several, numbers are the lowest and the highest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sweeps.bench.command import exit_code, plain_parser

Row = Mapping[str, Any]


def span(numbers: Sequence[float], form: str) -> str:
    """Return the lowest and the highest number, or one where both look alike."""
    low, high = format(min(numbers), form), format(max(numbers), form)
    return low if low == high else f"{low}-{high}"


def tables(runs: Sequence[Sequence[Row]]) -> str:
    """Return Markdown of the records of some runs, all of one benchmark."""
    return _of_learning(runs) if "algo" in runs[0][0] else _of_products(runs)


def _of_products(runs: Sequence[Sequence[Row]]) -> str:
    """Return a table for each case: a line a layer, a column a contestant.

    A cell has the time of dense, or the ratio to it, and the fraction of the multiply-add peak.
    """
    found: dict[str, dict[tuple[str, str], dict[str, list[Row]]]] = {}
    for row in (row for run in runs for row in run):
        line = f"{row['in']} x {row['out']}, batch {row['batch']}", f"{row['sparsity']:.4g}"
        lines = found.setdefault(f"{row['case']}, threads: {row['threads']}", {})
        lines.setdefault(line, {}).setdefault(_contestant(row, row["contestant"]), []).append(row)
    return "\n\n".join(_lines(title, lines) for title, lines in found.items())


def _lines(title: str, lines: Mapping[tuple[str, str], Mapping[str, Sequence[Row]]]) -> str:
    columns = list(dict.fromkeys(column for cells in lines.values() for column in cells))
    text = [f"| {title} | sparsity | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for (line, sparsity), cells in lines.items():
        shown = [_cell(cells[column]) if column in cells else "-" for column in columns]
        text.append(f"| {line} | {sparsity} | {' | '.join(shown)} |")
    return "\n".join(text)


def _cell(found: Sequence[Row]) -> str:
    first = found[0]
    if first["contestant"] == "dense" or first["ratio_to_dense"] is None:
        what, form, unit = "median_us", ".0f", " us"
    else:
        what, form, unit = "ratio_to_dense", ".1f", ""
    text = "-" if first[what] is None else span([row[what] for row in found], form) + unit
    if "of_peak" in first:
        text += f", {span([100 * row['of_peak'] for row in found], '.0f')}%"
    return text


def _of_learning(runs: Sequence[Sequence[Row]]) -> str:
    """Return a table for each measurement: a line a contestant."""
    found: dict[str, list[str]] = {}
    head = "| networks | contestant | sparsity | median ms | mean ms | times dense, median | mean |"
    for rows in zip(*runs, strict=True):
        row = rows[0]
        lines = found.setdefault(f"{row['algo']}, {row['measure']}", [head, "|---" * 7 + "|"])
        times = [span([r[key] for r in rows], ".2f") for key in ("median_ms", "mean_ms")]
        keys = ("ratio_to_dense", "mean_ratio_to_dense")
        ratios = [span([r[key] for r in rows], ".2f") for key in keys]
        cells = [str(row["net_arch"]), _contestant(row, row["backend"]), f"{row['sparsity']:.4g}"]
        lines.append(f"| {' | '.join([*cells, *times, *ratios])} |")
    return "\n\n".join(f"{title}:\n\n" + "\n".join(lines) for title, lines in found.items())


def _contestant(row: Row, name: str) -> str:
    library = row.get("library", "torch")
    group = f", g = {row['group']}" if row["group"] > 1 else ""
    return f"{name}{group}" if library in ("sb3", "torch") else f"{library} {name}{group}"


def main(arguments: list[str] | None = None) -> int:
    """Print the tables of some files."""
    parser = plain_parser("sweeps.bench.tables", __doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    runs = []
    for path in parser.parse_args(arguments).files:
        try:
            runs.append(json.loads(path.read_text()))
        except ValueError as error:
            raise InputError(f"{str(path)!r}: is no JSON: {error}") from error
    print(tables(runs))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.tables", main))
