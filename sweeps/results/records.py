"""Records: runs and rows with full precision, for CSV files and for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sweeps.results.pairs import Difference
from sweeps.results.stats import Interval
from sweeps.results.summary import Outcome, Summary

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table_records(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Return a record for each row of the summaries, with full precision."""
    records = []
    for summary in summaries:
        for row in summary.rows:
            found, gap = row.estimate, row.difference
            records.append(
                {
                    "kind": summary.kind_name,
                    "task": row.task,
                    "label": row.label,
                    **row.values,
                    "seeds": len(row.seeds),
                    "planned": row.planned,
                    "mean": row.mean,
                    "estimate": None if found is None else found.value,
                    "estimate_by": None if found is None else found.way,
                    **_ends("estimate", None if found is None else found.interval),
                    "difference_to_dense": None if gap is None else gap.value,
                    **_ends("difference_to_dense", gap),
                    "pairs": None if gap is None else gap.pairs,
                    "p_t": None if gap is None else gap.p,
                    "p_permutation": None if gap is None else gap.p_signs,
                    "p_holm": None if gap is None else gap.p_holm,
                    "probability_better_than_dense": row.better,
                    **{key: row.extra(key) for key, _ in summary.kind.extra},
                    "sparsity_requested": row.requested,
                    "sparsity_achieved": row.achieved,
                    "updates": row.updates,
                    "runs_without_update": len(row.still) if row.updates is not None else None,
                    "wall_s": row.measured("wall_s"),
                }
            )
    return records


def run_records(outcomes: Iterable[Outcome]) -> Iterator[dict[str, Any]]:
    """Yield a record for each run, done or not: what it is, what came out and what it cost."""
    return map(_run_record, outcomes)


def run_columns(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the names in the records of runs: those of a cell have the same."""
    one_each = {outcome.run.cell.key: outcome for outcome in outcomes}
    return columns([_run_record(outcome) for outcome in one_each.values()])


def columns(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names in any of these records."""
    return list(dict.fromkeys(name for record in records for name in record))


def _run_record(outcome: Outcome) -> dict[str, Any]:
    facts = outcome.facts
    sparsity = {} if facts is None else facts.sparsity
    return {
        "run_id": outcome.run.run_id,
        "kind": outcome.run.kind_name,
        "state": outcome.state.value,
        **outcome.run.shown(),
        "score": None if facts is None else facts.reported,
        **{
            f"sparsity_{name}": sparsity.get(name)
            for name in ("requested", "achieved", "active", "total")
        },
        "active_weights": None if facts is None else sum(layer.active for layer in facts.layers),
        "total_weights": None if facts is None else sum(layer.total for layer in facts.layers),
        "updates": None if facts is None else facts.updates,
        "without_update": None if facts is None else facts.still or None,
        **{
            key: None if facts is None else facts.measured.get(key)
            for key in ("wall_s", "cpu_s", "peak_rss_mb")
        },
        "attempts": outcome.folder.attempts(),
        "error": outcome.message or None,
    }


def as_csv(records: Iterable[Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    """Yield records as lines of CSV.

    Args:
        records: The records.
        names: The columns, among them all names in the records.
    """
    line = io.StringIO()
    writer = csv.DictWriter(line, names, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        yield line.getvalue()
        line.seek(0)
        line.truncate()
        writer.writerow({name: _harmless(value) for name, value in record.items()})
    yield line.getvalue()


def _ends(name: str, found: Interval | Difference | None) -> dict[str, float | None]:
    low, high = (None, None) if found is None else (found.low, found.high)
    return {f"{name}_low": low, f"{name}_high": high}


def _harmless(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula: text like one follows a quote."""
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value
