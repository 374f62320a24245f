"""Reports on toys: their runs are done and written about, and their page is read back."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from sweeps.language.grid import Grid
from sweeps.report.page import Report
from sweeps.results.summary import Summary
from sweeps.runs import worker
from sweeps.store.directory import RunDir


def finished(grid: Grid, folders: list[RunDir]) -> dict[str, RunDir]:
    """Do the runs of a grid, in this process."""
    for folder in folders:
        worker.execute(folder)
    return {run.run_id: folder for run, folder in zip(grid.runs, folders, strict=True)}


@dataclass(frozen=True)
class Written:
    """A report, and where it was written."""

    path: Path
    summaries: tuple[Summary, ...]
    missing: int


def write_report(grid: Grid, folder: Path, runs: dict[str, RunDir]) -> Written:
    """Report on runs, and write it into a folder."""
    report = Report(grid, runs)
    return Written(report.write(folder), report.summaries, report.missing)


class Page(HTMLParser):
    """What matters of a page: its tags with attributes, ids, links and text."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], []):
            self.text += data

    def attributes(self, *names: str) -> list[str]:
        return [value for _, found in self.tags for name in names if (value := found.get(name))]
