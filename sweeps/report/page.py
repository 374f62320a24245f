"""The report: one HTML page that needs nothing else, and the same numbers as CSV beside it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from sweeps.figures import registry
from sweeps.figures.looks import ON_DARK
from sweeps.files import remove_left, write_text
from sweeps.language import sources
from sweeps.language import spec as specs
from sweeps.language.cells import SEED
from sweeps.language.grid import Grid
from sweeps.report import plots
from sweeps.results.facts import Facts
from sweeps.results.progress import run_name
from sweeps.results.records import as_csv, columns, run_columns, run_records, table_records
from sweeps.results.summary import Outcome, Summary, collect, summarise
from sweeps.results.tables import comparisons, duration, remarks, results_table, unpaired
from sweeps.store.directory import RunDir, State


class Report:
    """What there is to say about a grid's runs, as they are now.

    Args:
        grid: The grid.
        runs: The directory of each run, by its identity.
        figures: Names of the figures that the page is to have; none: all.

    Attributes:
        outcomes: What became of each run.
        summaries: The rows of each kind.
        earlier: In one line, which runs of earlier versions of the user's own code lie beside
            these; empty if there are none.
    """

    def __init__(self, grid: Grid, runs: Mapping[str, RunDir], figures: Sequence[str] = ()) -> None:
        self.grid = grid
        self.figures = tuple(figures)
        kinds = {run.kind_name: run.kind for run in grid.runs}
        wanted = plots.chosen(self.figures, kinds.values())
        self.outcomes = tuple(collect(grid.runs, runs, registry.needs(wanted)))
        self.summaries = tuple(summarise(self.outcomes, grid.header.tuned_fields))
        self.earlier = _earlier(grid, runs)

    @property
    def missing(self) -> int:
        """The number of runs without a result."""
        return sum(outcome.facts is None for outcome in self.outcomes)

    def write(self, folder: Path) -> Path:
        """Write `report.html`, `runs.csv` and `table.csv`; return the path of the page.

        Raises:
            OSError: If a file cannot be written; what was there before is whole.
        """
        folder.mkdir(parents=True, exist_ok=True)
        remove_left(folder)
        path = folder / "report.html"
        write_text(path, render(self))
        runs = as_csv(run_records(self.outcomes), run_columns(self.outcomes))
        write_text(folder / "runs.csv", runs)
        table = table_records(self.summaries)
        write_text(folder / "table.csv", as_csv(table, columns(table)))
        return path

    def write_figures(self, folder: Path, form: str) -> int:
        """Write every panel of every figure into a file of its own; return their number.

        Args:
            folder: Where to.
            form: One of `sweeps.commands.parser.FIGURE_FORMATS`.

        Raises:
            OSError: If a file cannot be written.
        """
        return sum(
            plots.write_files(summary, folder, form, self.figures) for summary in self.summaries
        )


def render(report: Report) -> Iterator[str]:
    """Yield the page piece by piece; figures are drawn as their turn comes."""
    grid, outcomes, summaries = report.grid, report.outcomes, report.summaries
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sweeps.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["minus"] = lambda text: text.replace("-", "\N{MINUS SIGN}")
    results = [outcome.facts for outcome in outcomes if outcome.facts is not None]
    return environment.get_template("report.html.jinja").generate(
        name=grid.name,
        on_dark=list(ON_DARK.items()),
        sections=[
            {
                "summary": summary,
                "table": results_table(summary, whole=True),
                "comparisons": comparisons(summary),
                "unpaired": unpaired(summary),
                "remarks": remarks(summary),
                "plates": plots.plates(summary, report.figures),
                "settings": _settings(summary, outcomes),
                "ways": {row.estimate.way for row in summary.rows if row.estimate is not None},
            }
            for summary in summaries
        ],
        total=len(outcomes),
        done=len(results),
        missing=_missing(outcomes, summaries),
        wall=duration(sum(facts.measured["wall_s"] for facts in results)),
        provenance=[*_tuning(grid), *_provenance(results)],
        earlier=report.earlier,
        seen_by_tuning=_seen_by_tuning(grid),
        command=f"dst sweep run {shlex.quote(grid.reference)}",
        grid=grid.text,
    )


def _seen_by_tuning(grid: Grid) -> list[int]:
    """Return the seeds of the runs that tuning saw too, which flatters what was tuned."""
    tuned = grid.header.tuned
    seeds = {run.spec.seed for run in grid.runs}
    return [] if tuned is None else [seed for seed in tuned.seeds if seed in seeds]


def _earlier(grid: Grid, runs: Mapping[str, RunDir]) -> str:
    folder = next(iter(runs.values())).path.parent
    return sources.earlier_remark(folder, [run.record() for run in grid.runs])


def _settings(summary: Summary, outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Return what is not at its default, apart from task, seed and what the labels say."""
    mine = [outcome.run for outcome in outcomes if outcome.run.kind_name == summary.kind_name]
    runs = list({run.cell.key: run for run in mine}.values())
    chosen = {name for run in runs for name in specs.flatten(specs.delta(run.spec))}
    skipped = {*summary.axes.task, *summary.axes.telling, SEED}
    settings = []
    for name in dict.fromkeys(name for run in runs for name in run.cell.shown):
        if name not in chosen or name in skipped:
            continue
        values: dict[str, list[str]] = {}
        for run in runs:
            if name not in summary.axes.names or name in summary.axes.values(run):
                said = str(run.cell.shown.get(name))
                values.setdefault(said, []).append(summary.axes.label(run))
        if values:
            settings.append((name, _spelt(values)))
    return settings


def _spelt(values: Mapping[str, Sequence[str]]) -> str:
    if len(values) == 1:
        return next(iter(values))
    rarest_first = sorted(values.items(), key=lambda item: len(item[1]))
    named = [f"{value} ({', '.join(dict.fromkeys(labels))})" for value, labels in rarest_first[:-1]]
    return ", ".join([*named, f"{rarest_first[-1][0]} (others)"])


def _missing(outcomes: Sequence[Outcome], summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Return every run without a result, with the reason."""
    axes = {summary.kind_name: summary.axes for summary in summaries}
    reasons = {State.PENDING: "not run yet", State.RUNNING: "still running"}
    missing = []
    for outcome in outcomes:
        if outcome.facts is not None:
            continue
        missing.append(
            {
                "name": run_name(outcome.run, axes[outcome.run.kind_name]),
                "run_id": outcome.run.run_id,
                "state": outcome.state.value,
                "reason": reasons.get(outcome.state, outcome.message),
                "log": outcome.folder.log_tail() if outcome.state is State.FAILED else "",
            }
        )
    return missing


def _tuning(grid: Grid) -> list[tuple[str, str]]:
    """Return how the methods got their values, if the grid says so."""
    tuned = grid.header.tuned
    return [] if tuned is None else [("Tuning", tuned.said({run.spec.seed for run in grid.runs}))]


def _provenance(results: Sequence[Facts]) -> list[tuple[str, str]]:
    """Return where the results come from; what differs among them is listed with counts."""
    origins = [facts.origin for facts in results]
    facts = [
        ("Code", _counted(_commit(origin.get("git")) for origin in origins)),
        ("Own code", _own_code(origins)),
        ("Machine", _counted(str(origin.get("cpu")) for origin in origins)),
        ("System", _counted(str(origin.get("platform")) for origin in origins)),
        ("CPUs", _counted(str(origin.get("cpus")) for origin in origins)),
        ("Threads of each run", _counted(str(origin.get("threads")) for origin in origins)),
    ]
    names = dict.fromkeys(name for origin in origins for name in origin.get("versions", {}))
    versions = {
        name: _counted(str(origin.get("versions", {}).get(name)) for origin in origins)
        for name in names
    }
    installed = [f"{name} {version}" for name, version in versions.items() if version != "None"]
    return [fact for fact in [*facts, ("Versions", ", ".join(installed))] if fact[1]]


def _own_code(origins: Sequence[Mapping[str, Any]]) -> str:
    """Return the user's modules and files that runs named, with the start of their hashes."""
    said = {
        f"{name} {source['sha256']}" + (f" ({source['file']})" if source["file"] else "")
        for origin in origins
        for name, source in origin.get("sources", {}).items()
    }
    return ", ".join(sorted(said))


def _commit(git: Mapping[str, Any] | None) -> str:
    if not git:
        return "no git checkout"
    return f"{git['commit'][:12]}{' with uncommitted changes' if git['dirty'] else ''}"


def _counted(values: Iterable[str]) -> str:
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count} runs)" for value, count in counts.most_common())
