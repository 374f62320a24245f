"""A grid's results as a Markdown table in which rows are compared with some of them.

    dst sweep run cl_baselines
    python -m sweeps.bench.versus runs/cl_baselines independent replay

Rows are named as in `dst sweep report`; those without finished runs are left out. A table for each
task. Columns: seeds, the estimate that reports give, the kind's further numbers, and for each of
the rows that are named the paired difference with its 95 % t interval; then the same of the area
below the curves (`stats.area`), where there is more of them than their ends. In bold: Student's
paired test, after Holm's correction for all differences of the table in scores, or all in areas, is
at most 5 %. In brackets after a difference: of how many seeds, where not of all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sparse_core.checks import one_of
from sweeps.bench.command import exit_code, plain_parser
from sweeps.language.kinds import Kind
from sweeps.results import pairs, stats
from sweeps.results.export import summaries
from sweeps.results.facts import Facts
from sweeps.results.pairs import Difference
from sweeps.results.summary import Row, Summary

MINUS = "\N{MINUS SIGN}"


Measure = Callable[[Facts], float]


def score(run: Facts) -> float:
    """Return a run's score."""
    return run.score


def area(run: Facts) -> float:
    """Return the area below a run's curve, over its length."""
    return stats.area(run.curve)


def differences(
    rows: Sequence[Row], references: Sequence[str], measure: Measure = score
) -> list[list[Difference | None]]:
    """Compare each row with each of those that are named, corrected for all of them together.

    Args:
        rows: Of one task.
        references: Labels of rows.
        measure: What is compared.

    Returns:
        For each row a difference for each reference; None: it is that row, or has no such pairs.

    Raises:
        InputError: If there is no row of a label.
    """
    by_label = {row.label: row for row in rows}
    for reference in references:
        one_of("row", reference, by_label)
    found = [[_difference(row, by_label[name], measure) for name in references] for row in rows]
    every = [one for cells in found for one in cells if one is not None]
    corrected = iter(pairs.holm([one.p for one in every]))
    return [[one and replace(one, p_holm=next(corrected)) for one in cells] for cells in found]


def tables(summary: Summary, references: Sequence[str]) -> dict[str, str]:
    """Return the table of each task.

    Raises:
        InputError: If a task has no row of a label.
    """
    return {
        task: table(summary.kind, [row for row in summary.rows if row.task == task], references)
        for task in summary.tasks
    }


def table(kind: Kind, rows: Sequence[Row], references: Sequence[str]) -> str:
    """Return the table of one task.

    Args:
        kind: Of the runs.
        rows: Of one task.
        references: Labels of rows.
    """
    shown = [(key, head) for key, head in kind.extra if any(row.extra(key) for row in rows)]
    heads = ["", "seeds", kind.score, *(head for _, head in shown)]
    heads += [f"less {name}" for name in references]
    compared = [differences(rows, references)]
    curved = all(len(run.curve) > 1 for row in rows for run in row.runs)
    if curved:
        heads += ["curve", *(f"curve less {name}" for name in references)]
        compared.append(differences(rows, references, area))
    lines = [heads, ["---"] * len(heads)]
    for row, *cells in zip(rows, *compared, strict=True):
        if not row.runs:
            continue
        further = [_number(row.extra(key)) for key, _ in shown]
        said = [[_said(one, len(row.seeds)) for one in part] for part in cells]
        line = [row.label, str(len(row.seeds)), _estimate(row), *further, *said[0]]
        lines.append(line + ([_mean_area(row), *said[1]] if curved else []))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _difference(row: Row, other: Row, measure: Measure) -> Difference | None:
    if row is other:
        return None
    ours, theirs = ({run.seed: measure(run) for run in one.runs} for one in (row, other))
    seeds = [seed for seed in ours if seed in theirs]
    return pairs.difference([ours[s] for s in seeds], [theirs[s] for s in seeds])


def _mean_area(row: Row) -> str:
    return f"{float(np.mean([area(run) for run in row.runs])):.1f}"


def _estimate(row: Row) -> str:
    if row.estimate is None:
        return ""
    value, interval, _ = row.estimate
    return f"{value:.1f}" + (f" [{interval.low:.1f}, {interval.high:.1f}]" if interval else "")


def _said(found: Difference | None, seeds: int) -> str:
    if found is None:
        return ""
    text = f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]".replace("-", MINUS)
    fewer = f" ({found.pairs} seeds)" if found.pairs < seeds else ""
    return f"**{text}**{fewer}" if found.holds else text + fewer


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) > 100 else f"{value:.1f}"


def main() -> None:
    """Print the tables of a folder of runs, each under the name of its task."""
    parser = plain_parser("sweeps.bench.versus", __doc__)
    parser.add_argument("folder", type=Path, help="such as runs/cl_baselines")
    parser.add_argument("rows", nargs="+", metavar="ROW", help="that others are compared with")
    options = parser.parse_args()
    for summary in summaries(options.folder):
        for task, text in tables(summary, options.rows).items():
            print(task, text, sep="\n\n", end="\n\n")


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.versus", main))
