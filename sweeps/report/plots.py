"""Plates: the report's figures drawn, as SVG elements for the page and as files."""

from __future__ import annotations

import io
import re
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.lines import Line2D

from sparse_core.checks import InputError
from sweeps.figures import registry
from sweeps.figures.looks import FAINT, INK, MUTED, ON_DARK, Look
from sweeps.figures.registry import Figure
from sweeps.figures.sheet import Panel, Sheet, fold_labels, room_for_panels
from sweeps.language.kinds import Kind
from sweeps.results.summary import Summary

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "sweeps",
    "text.parse_math": False,
    "text.color": INK,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
FILE_PANELS = 200
"""Panels of a figure in files."""

_COLOUR = re.compile(r"#[0-9a-f]{6}")
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True)
class Plate:
    """One figure of a report.

    Attributes:
        name: Its name.
        panels: The SVG element of each panel, which says in words what it shows, and whether it
            needs the room of two.
        legend: The SVG element of each key, and its name.
        caption: What is to be seen.
    """

    name: str
    panels: tuple[tuple[str, bool], ...]
    legend: tuple[tuple[str, str], ...]
    caption: str


def chosen(names: Iterable[str], kinds: Iterable[Kind]) -> list[Figure]:
    """Return figures.

    Args:
        names: Of figures; none: all, and those of the kinds.
        kinds: Whose own figures are drawn too.

    Raises:
        InputError: If there is no such figure.
    """
    found = tuple(names) or (*registry.FIGURES, *(name for kind in kinds for name in kind.figures))
    return [registry.find(name) for name in dict.fromkeys(found)]


def plates(summary: Summary, figures: Iterable[str] = ()) -> Iterator[Plate]:
    """Draw figures of one kind for the page, one after the other.

    Args:
        summary: The runs.
        figures: Names; none: all, and those of the kind.

    Raises:
        InputError: If there is no such figure, or one of the user's own fails.
    """
    with mpl.rc_context(STYLE | {"svg.fonttype": "none"}):
        for name, sheet, caption in _sheets(summary, figures, room_for_panels(summary)):
            panels = tuple(
                (_inline(panel, f"{summary.kind_name}-{name}-{place}"), panel.wide)
                for place, panel in enumerate(sheet.panels)
            )
            legend = tuple((_key(look), label) for label, look in sheet.legend())
            yield Plate(name, panels, legend, _whole(sheet, caption))


def write_files(summary: Summary, folder: Path, form: str, figures: Iterable[str] = ()) -> int:
    """Write every panel of figures into a file of its own, with its legend; return their number.

    Raises:
        InputError: If there is no such figure, or one of the user's own fails.
        OSError: If a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with mpl.rc_context(STYLE | {"svg.fonttype": "path", "pdf.fonttype": 42}):
        for name, sheet, _ in _sheets(summary, figures, FILE_PANELS):
            plain = name.partition(":")[2] or name
            for place, panel in enumerate(sheet.panels, start=1):
                _add_legend(sheet, panel)
                fold_labels(panel.figure)
                path = folder / f"{summary.kind_name.rpartition(':')[2]}-{plain}-{place}.{form}"
                panel.figure.savefig(
                    path,
                    format=form,
                    bbox_inches="tight",
                    dpi=200,
                    metadata={"CreationDate": None} if form == "pdf" else None,
                )
                count += 1
    return count


def _sheets(
    summary: Summary, figures: Iterable[str], most: int
) -> Iterator[tuple[str, Sheet, str]]:
    names = tuple(figures) or (*registry.FIGURES, *summary.kind.figures)
    for name in dict.fromkeys(names):
        sheet = Sheet(summary, most)
        caption = _drawn(name, sheet)
        if sheet.panels:
            yield name, sheet, caption


def _drawn(name: str, sheet: Sheet) -> str:
    """Let a figure draw; faults of one of the user's own are told in one line."""
    draw = registry.function(registry.find(name))
    if name in registry.FIGURES:
        return draw(sheet)
    try:
        caption: object = draw(sheet)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"figures={name!r}: failed: {said} ({where.filename}, line {where.lineno}); "
            "results are kept, dst sweep report writes the report again",
            field="figures",
        ) from error
    if isinstance(caption, str):
        return caption
    raise InputError(
        f"figures={name!r}: returned a {type(caption).__name__}, must return its caption",
        field="figures",
    )


def _whole(sheet: Sheet, caption: str) -> str:
    """Return a caption that also says how many seeds there are, and what was left out."""
    said = [caption]
    if seeds := sheet.seeds():
        said.append(f"{seeds[0].upper()}{seeds[1:]} each." if sheet.shown else "")
    if sheet.left_out:
        total = len(sheet.panels) + sheet.left_out
        said.append(
            f"Shown are {len(sheet.panels)} of {total} panels; dst sweep report --figures svg "
            "writes them all."
        )
    return " ".join(part for part in said if part)


def _inline(panel: Panel, prefix: str) -> str:
    """Return a panel's SVG element, its ids its own and its colours the page's."""
    file = io.StringIO()
    fold_labels(panel.figure)
    panel.figure.savefig(file, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = file.getvalue()
    panel.figure.clear()
    prefix = re.sub(r"\W+", "-", prefix).strip("-").lower()
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', element)
    element = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', element)
    element = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", element)
    said = f"{panel.title}. {panel.said}" if panel.said else panel.title
    element = element.replace("<svg ", f'<svg role="img" aria-label="{escape(said)}" ', 1)
    return _themed(element)


def _themed(svg: str) -> str:
    """Replace colours that look otherwise on a dark page by variables of the page."""
    return _COLOUR.sub(lambda match: variable(match[0]) if match[0] in ON_DARK else match[0], svg)


def variable(colour: str) -> str:
    """Return a colour as a variable of the page, with itself to fall back on."""
    return f"var(--k{colour[1:]}, {colour})"


def _key(look: Look) -> str:
    """Return a short line as an SVG element, for a legend."""
    colour = _themed(look.colour)
    dashes = "" if look.line == "-" else ",".join(f"{1.7 * gap:g}" for gap in look.line[1])
    width = 1.8 if look.marker else 3.5
    style = f"stroke:{colour};stroke-width:{width};stroke-dasharray:{dashes or 'none'}"
    dot = f'<path d="{_SHAPES[look.marker]}" style="fill:{colour}"/>' if look.marker else ""
    return (
        '<svg class="key" viewBox="0 0 34 12" width="34" height="12" aria-hidden="true">'
        f'<path d="M1 6H33" style="{style}"/>{dot}</svg>'
    )


_SHAPES = {
    "o": "M13.5 6a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0Z",
    "s": "M14 3h6v6h-6Z",
    "D": "M17 1.8L21.2 6L17 10.2L12.8 6Z",
    "^": "M17 2L21 9.5H13Z",
    "v": "M17 10L21 2.5H13Z",
    "P": "M15.5 2h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5Z",
    "X": "M14 2l3 2.5l3-2.5l1.5 1.5l-2.5 2.5l2.5 2.5l-1.5 1.5l-3-2.5l-3 2.5"
    "l-1.5-1.5l2.5-2.5l-2.5-2.5Z",
}


def _add_legend(sheet: Sheet, panel: Panel) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=look.colour,
            linestyle=look.line,
            marker=look.marker or None,
            markersize=4,
            linewidth=1.5 if look.marker else 3,
        )
        for _, look in sheet.legend()
    ]
    if handles:
        panel.figure.legend(
            handles,
            [label for label, _ in sheet.legend()],
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=min(4, len(handles)),
            frameon=False,
            handlelength=2.6,
        )
