"""Results in the formats of other programs: CSV, Parquet, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sweeps.files import write_text
from sweeps.results.frames import CURVE_COLUMNS, curve_rows, run_rows
from sweeps.results.records import as_csv, columns, table_records
from sweeps.results.summary import Summary, collect, summarise
from sweeps.results.tables import TextTable, results_table
from sweeps.store import folder as folders

LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
}


def export(folder: Path, form: str, what: str | None, out: Path | None) -> str:
    """Write or return what lies in a folder of runs.

    Args:
        folder: The folder of a sweep.
        form: One of `sweeps.commands.parser.FORMATS`.
        what: One of `sweeps.commands.parser.EXPORTS`; None: the table in Markdown and
            LaTeX, else the runs.
        out: Where to write; None: return it as text, which Parquet is not.

    Returns:
        The text, empty if it was written.

    Raises:
        InputError: If the folder holds no runs, or the format does not suit.
        OSError: If the file cannot be written.
    """
    what = what or ("table" if form in READ else "runs")
    if form == "parquet":
        if out is None:
            raise InputError("--format parquet: is no text; say where to write it with --out FILE")
        _parquet(_records(folder, what), out)
        return ""
    if form in READ and what == "table":
        tables = [(summary, results_table(summary)) for summary in summaries(folder)]
        text = "\n\n".join(READ[form](table, _title(summary)) for summary, table in tables) + "\n"
    elif form in READ:
        text = READ[form](_plain(_records(folder, what)), "") + "\n"
    else:
        records = _records(folder, what)
        text = "".join(as_csv(records, columns(records)))
    if out is None:
        return text
    write_text(out, text)
    return ""


def markdown(table: TextTable, title: str) -> str:
    """Return a table as Markdown, its title above it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rules = ["---" if place < table.words else "---:" for place in range(len(table.header))]
    lines = [line(table.header), "|" + "|".join(rules) + "|"]
    for place, cells in enumerate(table.rows):
        marked = [
            f"**{cell}**" if (place, column) in table.strong else cell
            for column, cell in enumerate(cells)
        ]
        lines.append(line(marked))
    return "\n".join([*([f"{title}:", ""] if title else []), *lines])


def latex(table: TextTable, title: str) -> str:
    """Return a table as LaTeX, with rules of the package booktabs, its title as a comment."""
    columns = "l" * table.words + "r" * (len(table.header) - table.words)
    lines = [" & ".join(map(_latex, table.header)) + r" \\", r"\midrule"]
    for place, cells in enumerate(table.rows):
        marked = [
            rf"\textbf{{{_latex(cell)}}}" if (place, column) in table.strong else _latex(cell)
            for column, cell in enumerate(cells)
        ]
        lines.append(" & ".join(marked) + r" \\")
    head = [f"% {title}"] if title else []
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([*head, begin, r"\toprule", *lines, r"\bottomrule", end])


READ: dict[str, Callable[[TextTable, str], str]] = {"latex": latex, "markdown": markdown}
"""Formats for people."""


def _records(folder: Path, what: str) -> list[dict[str, Any]]:
    if what == "runs":
        return run_rows(folder)
    if what == "curves":
        return list(curve_rows(folder)) or [dict.fromkeys(CURVE_COLUMNS)]
    return table_records(summaries(folder))


def summaries(folder: Path) -> list[Summary]:
    """Summarise a folder of runs, kind by kind; tuned methods are paired as in their report."""
    runs = [folders.as_run(record) for _, record in folders.records(folder)]
    header = folders.header(folder)
    fields = () if header is None else header.tuned_fields
    return summarise(collect(runs, folders.runs(folder)), fields)


def _title(summary: Summary) -> str:
    return f"{summary.kind.title or summary.kind_name}: {summary.kind.score}"


def _plain(records: Sequence[Mapping[str, Any]]) -> TextTable:
    """Return records as a table of text."""
    header = tuple(dict.fromkeys(name for record in records for name in record))
    rows = tuple(
        tuple("" if record.get(name) is None else str(record[name]) for name in header)
        for record in records
    )
    return TextTable(1, header, rows)


def _parquet(records: Sequence[Mapping[str, Any]], out: Path) -> None:
    for name in ("pandas", "pyarrow"):
        if find_spec(name) is None:
            raise InputError(f"{name}: is not installed: pip install 'dstrl[data]'")
    import pandas

    pandas.DataFrame.from_records(list(records)).to_parquet(out, index=False)


def _latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)
