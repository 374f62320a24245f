"""Tables: the rows of a summary as text, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from rich import box
from rich.table import Table
from rich.text import Text

from sparse_core.listing import Entry
from sweeps.language.axes import DENSE, DISTRIBUTION, METHOD, short
from sweeps.results.estimates import MANY
from sweeps.results.summary import Row, Summary

NOTHING = "-"


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes:
        words: How many leading columns are words.
        header: The heading of each column.
        rows: The cells of each row.
        strong: Row and column of the differences that survive the correction for their number.
    """

    words: int
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[tuple[int, int]] = frozenset()


Cell = Callable[[Row], str]


def results_table(summary: Summary, *, whole: bool = False) -> TextTable:
    """Return the results of one kind as a table of text.

    Args:
        summary: The results.
        whole: Also show probabilities before the correction, active weights and, where a row has
            fewer than ten seeds, the scores of single runs.
    """
    rows = summary.rows
    words = _words(summary)
    places = decimals(score for row in rows for score in row.scores)
    compared = any(row.difference is not None for row in rows)
    columns: list[tuple[str, Cell]] = [*words, ("seeds", _seeds)]
    for way, heading in (("mean", "mean [95% t]"), ("IQM", "IQM [95% bootstrap]")):
        if any(row.estimate is not None and row.estimate.way == way for row in rows) or (
            way == "mean" and all(row.estimate is None for row in rows)
        ):
            columns.append((heading, partial(_estimate, way=way, form=f",.{places}f")))
    if whole and any(0 < len(row.runs) < MANY for row in rows):
        columns.append(("single runs", partial(_singles, places=places)))
    if compared:
        heading = f"less {DENSE}, paired [95% t]"
        columns.append((heading, partial(_difference, form=f"+,.{places}f")))
        columns += [("p", partial(_probability, of="p"))] if whole else []
        columns.append(("p (Holm)", partial(_probability, of="p_holm")))
    for key, heading in summary.kind.extra:
        if any(row.extra(key) is not None for row in rows):
            columns.append((heading, partial(_extra, key=key, places=places)))
    columns.append(("sparsity reached", _achieved))
    columns += [("weights", lambda row: _optional(row.weights, 0))] if whole else []
    if any(row.updates is not None for row in rows):
        columns.append(("updates", lambda row: _optional(row.updates, 0)))
    columns.append(("wall time", _wall))
    first = len(words) + 1
    marked = next((i for i, (name, _) in enumerate(columns) if name.startswith("less ")), first)
    return TextTable(
        len(words),
        tuple(name for name, _ in columns),
        tuple(tuple(cell(row) for _, cell in columns) for row in rows),
        frozenset(
            (place, marked)
            for place, row in enumerate(rows)
            if row.difference is not None and row.difference.holds
        ),
    )


def comparisons(summary: Summary) -> str:
    """Say how many differences were tested together; empty if none were."""
    count = sum(row.difference is not None for row in summary.rows)
    if not count:
        return ""
    held = sum(row.difference is not None and row.difference.holds for row in summary.rows)
    tests = "one difference is" if count == 1 else f"{count} differences are"
    return (
        f"{tests} tested by Student's paired t test with Holm's correction; "
        f"{held} at most 5%, in bold"
    )


def unpaired(summary: Summary) -> list[str]:
    """Return a sentence for each row that cannot be compared seed by seed with dense runs."""
    return [
        f"{_named(summary, row)}: its seeds are not those of the dense runs, so nothing is paired"
        for row in summary.rows
        if row.unpaired
    ]


def remarks(summary: Summary) -> list[str]:
    """Return a sentence for each row with runs whose topology never moved as its method would."""
    said = []
    for row in summary.rows:
        if row.still:
            name = _named(summary, row)
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
    for place, row in enumerate(content.rows):
        table.add_row(
            *(
                Text(cell, "bold" if (place, column) in content.strong else "")
                for column, cell in enumerate(row)
            )
        )
    return table


def listing_table(entries: Sequence[Entry]) -> Table:
    """Return names, each with its line and its source, as a table for the terminal."""
    table = Table.grid(padding=(0, 2))
    for entry in entries:
        table.add_row(Text(entry.name, "bold"), Text(entry.summary), Text(entry.source, "dim"))
    return table


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


def _words(summary: Summary) -> list[tuple[str, Cell]]:
    """Return the columns that say which row it is."""
    axes = summary.axes
    shown = {METHOD, DISTRIBUTION, *axes.telling, *axes.tuned}
    columns: list[tuple[str, Cell]] = []
    if len(summary.tasks) > 1:
        columns.append(("task", lambda row: row.task))
    for name in axes.names:
        if name in shown:
            columns.append((short(name), partial(_value, name=name)))
    return columns or [("run", lambda row: row.label)]


def _named(summary: Summary, row: Row) -> str:
    return f"{row.task}: {row.label}" if len(summary.tasks) > 1 else row.label


def _value(row: Row, name: str) -> str:
    value = row.values.get(name, ...)
    if value is ...:
        return NOTHING
    return f"{value:g}" if isinstance(value, float) else str(value)


def _seeds(row: Row) -> str:
    found = len(row.seeds)
    return str(found) if found == row.planned else f"{found} of {row.planned}"


def _estimate(row: Row, way: str, form: str) -> str:
    found = row.estimate
    if found is None or found.way != way:
        return NOTHING
    ends = "" if found.interval is None else _between(found.interval.low, found.interval.high, form)
    return format(found.value, form) + ends


def _singles(row: Row, places: int) -> str:
    few = 0 < len(row.runs) < MANY
    return " ".join(number(score, places) for score in row.scores) if few else NOTHING


def _difference(row: Row, form: str) -> str:
    gap = row.difference
    if gap is None:
        return NOTHING
    of = f" ({gap.pairs} pairs)" if gap.pairs < len(row.runs) else ""
    return format(gap.value, form) + _between(gap.low, gap.high, form) + of


def _between(low: float, high: float, form: str) -> str:
    return f" [{low:{form}}, {high:{form}}]"


def _probability(row: Row, of: str) -> str:
    if row.difference is None:
        return NOTHING
    value: float = getattr(row.difference, of)
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _extra(row: Row, key: str, places: int) -> str:
    value = row.extra(key)
    return _optional(value, 0 if value is not None and abs(value) > 100 else places)


def _achieved(row: Row) -> str:
    return NOTHING if row.achieved is None else f"{100 * row.achieved:.2f}%"


def _wall(row: Row) -> str:
    seconds = row.measured("wall_s")
    return NOTHING if seconds is None else duration(seconds)


def _optional(value: float | None, places: int) -> str:
    return NOTHING if value is None else number(value, places)
