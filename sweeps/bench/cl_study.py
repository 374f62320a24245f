"""ERK or uniform, and which growth? Tables and a figure of the study's grids.

    dst sweep run cl_digits
    python -m sweeps.bench.cl_study cl_digits

Runs are paired by seed: same initial weights' streams, same permutations, same order of the data.
Differences are the report's (`sweeps.results.pairs`): mean, 95 % t interval, Student's paired test,
bold where its p is at most 5 % after Holm's correction for all differences of the table.

Written into the folder: `GRID.json` (the numbers of each run), `GRID.svg`, and the tables, between
`<!-- GRID -->` and `<!-- end -->` in `continual.md`. Without the runs the tables are made from
`GRID.json`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sparse_core.checks import InputError
from sweeps.bench.command import exit_code, plain_parser
from sweeps.language.grid import load_grid
from sweeps.report.plots import STYLE
from sweeps.results.pairs import Difference, difference, holm
from sweeps.store.directory import RunDir

RULES = ("static", "dense_heads", "random", "unfired", "gradient", "adam_momentum")
NAMES = {"adam_momentum": "momentum", "dense_heads": "static, dense heads"}
HUES = ("#000000", "#CC79A7", "#56B4E9", "#0072B2", "#009E73", "#D55E00")
COLOURS = dict(zip(RULES, HUES, strict=True))
TICKS = (-1, 0, 1, 2, 5, 10, 20, 40)
MEASURES = ("average", "first task", "last task")

Case = tuple[str, float, str]
Numbers = dict[Case, dict[int, tuple[float, ...]]]
"""By rule, sparsity and distribution, then seed: `MEASURES`, in percent.

A rule is one of growth, or what stands beside static masks in a grid that has both kinds of heads.
"""


def collect(reference: str, runs_dir: Path) -> Numbers:
    """Read what the finished runs of a grid measured."""
    grid = load_grid(reference)
    if any(run.kind_name != "cl" for run in grid.runs):
        raise InputError(f"grid={reference!r}: the study's grids are of kind cl", field="grid")
    numbers: Numbers = defaultdict(dict)
    several = len({run.spec.sparse.dense for run in grid.runs}) > 1
    for run in grid.runs:
        result = RunDir(runs_dir / grid.name / run.run_id).result()
        if result is None:
            continue
        sparse, matrix = run.spec.sparse, result["accuracy_matrix"]
        rule = "static" if sparse.method == "static" else sparse.growth_rule
        if several and sparse.dense:
            rule = "dense_heads"
        values = (result["score"], matrix[0][0], matrix[-1][-1])
        case = (rule, sparse.sparsity, sparse.distribution)
        numbers[case][run.spec.seed] = tuple(round(100 * value, 3) for value in values)
    return numbers


def paired(numbers: Numbers, one: Case, other: Case, measure: int = 0) -> Difference | None:
    """Return the difference of two cases over the seeds that both have; None of fewer than two."""
    seeds = sorted(set(numbers.get(one, {})) & set(numbers.get(other, {})))
    ours, theirs = ([numbers[case][seed][measure] for seed in seeds] for case in (one, other))
    return difference(ours, theirs)


def cell(found: Difference | None) -> str:
    """Return a difference for a table, bold if it survives the correction for all of the table."""
    if found is None:
        return "none"
    text = f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"
    text = text.replace("-", "\N{MINUS SIGN}")
    return f"**{text}**" if found.holds else text


def table(head: str, sparsities: Sequence[float], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return a Markdown table with a column for each sparsity."""
    lines = [
        "| " + " | ".join([head, *(f"{100 * s:g} %" for s in sparsities)]) + " |",
        "|---" * (1 + len(sparsities)) + "|",
    ]
    lines += ["| " + " | ".join([name, *cells]) + " |" for name, cells in rows]
    return "\n".join(lines)


def compared(
    rows: Sequence[tuple[str, Sequence[Difference | None]]],
) -> list[tuple[str, list[str]]]:
    """Return rows of differences as text, corrected for all of them together."""
    every = [found for _, cells in rows for found in cells if found is not None]
    corrected = iter(holm([found.p for found in every]))
    return [
        (name, [cell(it and replace(it, p_holm=next(corrected))) for it in cells])
        for name, cells in rows
    ]


def mean(numbers: Numbers, case: Case, measure: int = 0) -> str:
    """Return a case's mean over seeds."""
    values = [seed[measure] for seed in numbers.get(case, {}).values()]
    return f"{np.mean(values):.1f}" if values else "none"


def tables(numbers: Numbers) -> str:
    """Return all tables as Markdown."""
    sparsities = _complete(numbers)
    rules = [rule for rule in RULES if any(case[0] == rule for case in numbers)]
    kinds = ("erk", "uniform")

    def means(rule: str) -> list[str]:
        return [" / ".join(mean(numbers, (rule, s, k)) for k in kinds) for s in sparsities]

    def erk_less_uniform(rule: str, measure: int) -> list[Difference | None]:
        return [
            paired(numbers, (rule, s, "erk"), (rule, s, "uniform"), measure) for s in sparsities
        ]

    def less_static(rule: str, kind: str) -> list[Difference | None]:
        return [paired(numbers, (rule, s, kind), ("static", s, kind)) for s in sparsities]

    counts = sorted({len(seeds) for seeds in numbers.values()})
    runs = "-".join(dict.fromkeys(map(str, (counts[0], counts[-1]))))
    title = f"Average accuracy after the last task, ERK / uniform ({runs} seeds)"
    parts = [(title, "growth", [(NAMES.get(rule, rule), means(rule)) for rule in rules])]
    for measure, what in enumerate(MEASURES):
        differences = [(NAMES.get(rule, rule), erk_less_uniform(rule, measure)) for rule in rules]
        parts.append((f"ERK less uniform: {what}", "growth", compared(differences)))
    growing = [
        (f"{NAMES.get(rule, rule)}, {kind}", less_static(rule, kind))
        for kind in kinds
        for rule in rules[1:]
    ]
    parts.append(("Less static: average", "growth, distribution", compared(growing)))
    return "\n\n".join(
        f"{title}:\n\n{table(head, sparsities, rows)}" for title, head, rows in parts
    )


def _complete(numbers: Numbers) -> list[float]:
    """Return the sparsities at which both distributions were run."""
    kinds: dict[float, set[str]] = defaultdict(set)
    for _, sparsity, kind in numbers:
        kinds[sparsity].add(kind)
    return sorted(sparsity for sparsity, found in kinds.items() if len(found) > 1)


def draw(numbers: Numbers, path: Path, title: str) -> None:
    """Draw accuracies, and the paired differences ERK less uniform with their intervals."""
    sparsities = _complete(numbers)
    rules = [rule for rule in RULES if any(case[0] == rule for case in numbers)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for place, rule in enumerate(rules):
            name, colour = NAMES.get(rule, rule), COLOURS[rule]
            shift = np.arange(len(sparsities)) + 0.12 * (place - (len(rules) - 1) / 2)
            for kind, line in (("erk", "-"), ("uniform", (0, (4, 1.6)))):
                seeds = [list(numbers.get((rule, s, kind), {}).values()) for s in sparsities]
                heights = [
                    np.mean([v[0] for v in values]) if values else np.nan for values in seeds
                ]
                label = name if kind == "erk" else None
                left.plot(
                    heights, color=colour, linestyle=line, marker="o", markersize=3, label=label
                )
            found = [paired(numbers, (rule, s, "erk"), (rule, s, "uniform")) for s in sparsities]
            shown = [(x, d) for x, d in zip(shift, found, strict=True) if d is not None]
            right.errorbar(
                [x for x, _ in shown],
                [d.value for _, d in shown],
                yerr=np.array([(d.value - d.low, d.high - d.value) for _, d in shown]).T,
                color=colour,
                fmt="o",
                markersize=4,
                capsize=2,
            )
        left.set_title(f"{title}: ERK solid, uniform dashed")
        left.set_ylabel("average accuracy (%)")
        right.axhline(0, color="#444444", linewidth=0.8)
        right.set_title("ERK less uniform, paired")
        right.set_ylabel("points, 95 % t interval")
        right.set_yscale("symlog", linthresh=2)
        right.set_ylim(bottom=min(-1, right.get_ylim()[0]))
        right.set_yticks(TICKS, [f"{tick:+g}" for tick in TICKS])
        left.legend(frameon=False, fontsize=8, loc="lower left")
        for axes in (left, right):
            axes.set_xticks(range(len(sparsities)), [f"{100 * s:g} %" for s in sparsities])
            axes.set_xlabel("sparsity of each task")
        figure.savefig(path, metadata={"Date": None})


def as_json(numbers: Numbers) -> dict[str, Any]:
    """Return the numbers as JSON can hold them, one line for each case."""
    return {
        " ".join(map(str, case)): {str(seed): list(v) for seed, v in sorted(seeds.items())}
        for case, seeds in sorted(numbers.items())
    }


def from_json(content: dict[str, Any]) -> Numbers:
    """Read what `as_json` made."""
    numbers: Numbers = {}
    for name, seeds in content.items():
        rule, sparsity, kind = name.split()
        numbers[rule, float(sparsity), kind] = {int(s): tuple(v) for s, v in seeds.items()}
    return numbers


def main() -> None:
    """Write the tables and the figure of a grid."""
    parser = plain_parser("sweeps.bench.cl_study", __doc__)
    parser.add_argument("grid", help="cl_digits, cl_digits_head, cl_heads or cl_mnist")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    stored = options.out / f"{options.grid}.json"
    page = options.out / "continual.md"
    numbers = collect(options.grid, options.runs_dir)
    if not numbers and not stored.is_file():
        raise InputError(
            f"grid={options.grid!r}: no finished runs in {options.runs_dir}, and no {stored}",
            field="grid",
        )
    head, mark, rest = page.read_text(encoding="utf-8").partition(f"<!-- {options.grid} -->\n")
    if not mark:
        raise InputError(f"{page}: has no line <!-- {options.grid} -->")
    if numbers:
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in as_json(numbers).items()]
        stored.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    numbers = from_json(json.loads(stored.read_text(encoding="utf-8")))
    draw(numbers, options.out / f"{options.grid}.svg", options.grid)
    tail = rest[rest.index("<!-- end -->") :]
    page.write_text(f"{head}{mark}\n{tables(numbers)}\n\n{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.cl_study", main))
