"""What is kept, gained and used up over a sequence of tasks: a dot for each run."""

from __future__ import annotations

from sweeps.figures.looks import INK
from sweeps.figures.scores import forest, shortened
from sweeps.figures.sheet import Sheet
from sweeps.results.summary import Row
from sweeps.store.validity import is_number

MEASURES = {
    "forgetting": "forgetting (%)",
    "backward_transfer": "backward transfer (%)",
    "forward_transfer": "forward transfer (%)",
    "capacity_used": "capacity used (%)",
}


def draw(sheet: Sheet) -> str:
    """Draw each measure that runs have, a panel for each task, setting and measure."""
    jobs = [
        (part, key, title)
        for part in sheet.parts()
        for key, title in MEASURES.items()
        if any(_values(row, key) for row, _ in part.rows)
    ]
    for part, key, title in sheet.limited(jobs):
        rows = [(row, label, _values(row, key)) for row, label in part.rows]
        rows = [item for item in rows if item[2]]
        names = [f"{shortened(label)} ({len(values)})" for _, label, values in rows]
        said = "; ".join(f"{label} {sum(found) / len(found):.3g}" for _, label, found in rows)
        plot = forest(sheet, f"{title[0].upper()}{title[1:]}: {part.title}", names, said)
        plot.set_xlabel(title)
        if key != "capacity_used":
            plot.axvline(0, color=INK, linewidth=0.8)
        for place, (row, _, values) in enumerate(rows):
            look = sheet.look(row)
            plot.plot(values, [place] * len(values), "|", color=look.colour, ms=8, alpha=0.7)
            mean = sum(values) / len(values)
            plot.plot([mean], [place], marker=look.marker, markersize=5, color=look.colour)
    return (
        "Forgetting: fall from the best accuracy on a task to the last. Transfer: what tasks gain "
        "from later (backward) and earlier (forward) ones. Capacity: weights that tasks hold. "
        "Dots are means over seeds, ticks single runs."
    )


def _values(row: Row, key: str) -> list[float]:
    return [100 * value for run in row.runs if is_number(value := run.named.get(key))]
