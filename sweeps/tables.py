"""Tables: the rows of a summary as text, for the terminal, the report and CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from sparse_core.listing import Entry
from sweeps import spec as specs
from sweeps.axes import DENSE, DISTRIBUTION, METHOD, short
from sweeps.stats import Interval
from sweeps.summary import Outcome, Row, Summary, still, updates

NOTHING = "-"
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class TextTable:
    """A table of text: how many leading columns are words, the header and the rows."""

    words: int
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def results_table(summary: Summary) -> TextTable:
    """Return the results of one kind as a table of text."""
    several = len(summary.tasks) > 1
    axes = [name for name in summary.axes.names if name in _shown(summary)]
    words = (("task",) if several else ()) + tuple(short(name) for name in axes) or ("run",)
    compared = any(row.difference is not None for row in summary.rows)
    extra = {
        key: heading
        for key, heading in summary.kind.extra
        if any(row.extra[key] is not None for row in summary.rows)
    }
    moving = any(row.updates is not None for row in summary.rows)
    header = (
        *words,
        "seeds",
        "mean",
        "IQM [95% interval]",
        *([f"vs {DENSE}, paired [95%]"] if compared else []),
        *extra.values(),
        "sparsity",
        *(["updates"] if moving else []),
        "wall time",
    )
    places = decimals(score for row in summary.rows for score in row.scores)
    rows = []
    for row in summary.rows:
        names = [row.task] if several else []
        names += [_value(row.values.get(name, ...)) for name in axes]
        rows.append(
            (
                *(names or [row.label]),
                _seeds(row),
                NOTHING if row.mean is None else number(row.mean.estimate, places),
                _interval(row.iqm, row, f",.{places}f"),
                *([_interval(row.difference, row, f"+,.{places}f")] if compared else []),
                *(_optional(row.extra[key], places) for key in extra),
                NOTHING if row.achieved is None else f"{100 * row.achieved:.2f}%",
                *([_optional(row.updates, 0)] if moving else []),
                NOTHING if row.wall_s is None else duration(row.wall_s),
            )
        )
    return TextTable(len(words), header, tuple(rows))


def remarks(summary: Summary) -> list[str]:
    """Return a sentence for each row with runs whose topology never moved as its method would."""
    several = len(summary.tasks) > 1
    said = []
    for row in summary.rows:
        if row.still:
            name = f"{row.task}: {row.label}" if several else row.label
            example = dict.fromkeys(row.still)
            others = ", and others alike" if len(example) > 1 else ""
            said.append(
                f"{name}: {len(row.still)} of {len(row.seeds)} runs did not move "
                f"({next(iter(example))}{others})"
            )
    return said


def terminal_table(summary: Summary) -> Table:
    """Return the results of one kind as a table for the terminal."""
    content = results_table(summary)
    title = f"{summary.kind.title or summary.kind_name}: {summary.kind.score}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(content.header):
        table.add_column(heading, justify="left" if index < content.words else "right")
    for row in content.rows:
        table.add_row(*row)
    return table


def listing_table(entries: Sequence[Entry]) -> Table:
    """Return names, each with its line and its source, as a table for the terminal."""
    table = Table.grid(padding=(0, 2))
    for entry in entries:
        table.add_row(Text(entry.name, "bold"), Text(entry.summary), Text(entry.source, "dim"))
    return table


def table_csv(summaries: Sequence[Summary]) -> str:
    """Return one line for each row of the summaries, with full precision."""
    records = []
    for summary in summaries:
        for row in summary.rows:
            records.append(
                {
                    "kind": summary.kind_name,
                    "task": row.task,
                    "label": row.label,
                    **row.values,
                    "seeds": len(row.seeds),
                    "planned": row.planned,
                    **_interval_fields("mean", row.mean),
                    **_interval_fields("iqm", row.iqm),
                    **_interval_fields("difference_to_dense", row.difference),
                    **row.extra,
                    "sparsity_requested": row.requested,
                    "sparsity_achieved": row.achieved,
                    "updates": row.updates,
                    "runs_without_update": len(row.still) if row.updates is not None else None,
                    "wall_s": row.wall_s,
                }
            )
    return _csv(records)


def runs_csv(outcomes: Sequence[Outcome]) -> str:
    """Return one line for each run, done or not: what it is, what came out and what it cost."""
    records = []
    for outcome in outcomes:
        result = outcome.result or {}
        provenance = result.get("provenance", {})
        layers = result.get("layers", [])
        records.append(
            {
                "run_id": outcome.run.run_id,
                "kind": outcome.run.kind_name,
                "state": outcome.state.value,
                **specs.shown(outcome.run.spec),
                "score": result.get("score"),
                "sparsity_requested": result.get("sparsity", {}).get("requested"),
                "sparsity_achieved": result.get("sparsity", {}).get("achieved"),
                "sparsity_active": result.get("sparsity", {}).get("active"),
                "sparsity_total": result.get("sparsity", {}).get("total"),
                "active_weights": sum(layer["active"] for layer in layers) if result else None,
                "total_weights": sum(layer["total"] for layer in layers) if result else None,
                "updates": updates(result),
                "without_update": still(result) or None,
                **{key: provenance.get(key) for key in ("wall_s", "cpu_s", "peak_rss_mb")},
                "attempts": outcome.folder.attempts(),
                "error": outcome.message or None,
            }
        )
    return _csv(records)


def decimals(values: Iterable[float]) -> int:
    """Return as many decimals as a reader can use for numbers of this size."""
    largest = max((abs(value) for value in values), default=0.0)
    return 1 if largest >= 10 else 2 if largest >= 1 else 3


def number(value: float, places: int | None = None) -> str:
    """Return a number with these decimals, or as many as its size asks for."""
    return f"{value:,.{decimals([value]) if places is None else places}f}"


def duration(seconds: float) -> str:
    """Return a time span as a reader wants it."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _shown(summary: Summary) -> set[str]:
    """Return the axes that get a column: method, distribution, and what else tells runs apart."""
    return {METHOD, DISTRIBUTION, *summary.axes.telling}


def _value(value: Any) -> str:
    if value is ...:
        return NOTHING
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seeds(row: Row) -> str:
    found = len(row.seeds)
    return str(found) if found == row.planned else f"{found} of {row.planned}"


def _optional(value: float | None, places: int) -> str:
    return NOTHING if value is None else number(value, places)


def _interval(interval: Interval | None, row: Row, form: str) -> str:
    if interval is None:
        return NOTHING
    estimate, low, high = (format(value, form) for value in interval)
    return f"{estimate} [{low}, {high}]" if len(row.seeds) > 1 else estimate


def _interval_fields(name: str, interval: Interval | None) -> dict[str, float | None]:
    values = interval or (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _csv(records: Sequence[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for record in records for name in record))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: _harmless(value) for name, value in record.items()} for record in records
    )
    return file.getvalue()


def _harmless(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula: text like one follows a quote."""
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value
