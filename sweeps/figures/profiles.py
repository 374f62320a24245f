"""Performance profiles, and the probability of beating a dense run (Agarwal et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeps.figures.looks import MUTED
from sweeps.figures.normalised import scales
from sweeps.figures.scores import forest, shortened
from sweeps.figures.sheet import Sheet
from sweeps.language.axes import DENSE
from sweeps.results import stats
from sweeps.results.estimates import MANY
from sweeps.results.summary import Row

POINTS = 121
REPETITIONS = 1_000


def profiles(sheet: Sheet) -> str:
    """Draw the fraction of runs above every normalised score, a panel for each setting."""
    scale = scales(sheet.summary)
    for setting, groups in _by_setting(sheet).items():
        scores = {
            label: [scale[row.task].of(row.scores) for row in rows]
            for label, rows in groups.items()
        }
        every = [value for found in scores.values() for column in found for value in column]
        if len(groups) < 2 or min(every) == max(every):
            continue
        low, high = min(every), max(every)
        grid = np.linspace(low - 0.02 * (high - low), high, POINTS)
        above = {
            label: np.mean([stats.performance_profile(it[:, None], grid) for it in columns], axis=0)
            for label, columns in scores.items()
        }
        said = ", ".join(f"{label} {found[POINTS // 2]:.2f}" for label, found in above.items())
        plot = sheet.panel(setting or "All runs", f"above {grid[POINTS // 2]:.3g}: {said}")
        for label, found in above.items():
            look = sheet.look(groups[label][0])
            plot.step(
                grid, found, color=look.colour, linestyle=look.line, linewidth=1.5, where="post"
            )
        plot.set_xlabel("normalised score")
        plot.set_ylabel("fraction of runs above")
        plot.set_ylim(0, 1.04)
    sheet.share(x=True)
    said = ", or ".join(dict.fromkeys(found.said for found in scale.values()))
    over = f", averaged over {len(scale)} tasks" if len(scale) > 1 else ""
    return f"Performance profiles: the fraction of runs above each score{over}; {said}."


def improvement(sheet: Sheet) -> str:
    """Draw the probability that a run of each row beats a dense run, a panel for each setting."""
    for setting, groups in _by_setting(sheet).items():
        chosen = {
            label: rows
            for label, rows in groups.items()
            if any(row.better is not None for row in rows)
        }
        if not chosen:
            continue
        found = {label: _better(rows) for label, rows in chosen.items()}
        names = [f"{shortened(label)} ({_count(rows)})" for label, rows in chosen.items()]
        said = "; ".join(f"{label} {it.estimate:.2f}" for label, it in found.items())
        plot = forest(sheet, setting or "All runs", names, said)
        plot.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        plot.set_xlim(-0.03, 1.03)
        plot.set_xlabel(f"probability of a better run than {DENSE}")
        for place, (label, it) in enumerate(found.items()):
            look = sheet.look(chosen[label][0])
            if it.low < it.high:
                plot.hlines(place, it.low, it.high, color=look.colour, linewidth=1.8)
            plot.plot([it.estimate], [place], marker=look.marker, markersize=5, color=look.colour)
    return (
        f"Probability that a run scores higher than a {DENSE} run of the same task, ties half; "
        "0.5 is neither. Bars are 95% bootstrap intervals, from ten seeds on. Seeds in brackets."
    )


def _by_setting(sheet: Sheet) -> dict[str, dict[str, list[Row]]]:
    """Return, for each setting, the rows with results of each label, one for each task."""
    settings: dict[str, dict[str, list[Row]]] = {}
    for part in sheet.parts():
        for row, label in part.rows:
            if row.runs:
                lines = settings.setdefault(", ".join(part.setting), {})
                lines.setdefault(label, []).append(row)
    return settings


def _count(rows: Sequence[Row]) -> str:
    counts = sorted({len(row.runs) for row in rows})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"


def _better(rows: Sequence[Row]) -> stats.Interval:
    """Return the mean over tasks of the probability, with an interval where there are many runs."""
    known = [row for row in rows if row.better is not None]
    estimate = float(np.mean([row.better for row in known]))
    if any(min(len(row.runs), len(row.others)) < MANY for row in known):
        return stats.Interval(estimate, estimate, estimate)
    ends = [
        stats.improvement_interval(
            np.array(row.scores)[:, None],
            np.array([run.score for run in row.others])[:, None],
            stats.generator("improvement", row.task, row.label),
            repetitions=REPETITIONS,
        )
        for row in known
    ]
    if len(ends) == 1:
        return ends[0]
    half = float(np.mean([(it.high - it.low) / 2 for it in ends])) / len(ends) ** 0.5
    return stats.Interval(estimate, max(0.0, estimate - half), min(1.0, estimate + half))
