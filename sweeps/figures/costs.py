"""What a score costs: weights, operations, bytes and seconds, with the front of the cheapest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from sweeps.figures.looks import MUTED
from sweeps.figures.scores import room, ways
from sweeps.figures.sheet import Sheet
from sweeps.results.estimates import Estimate
from sweeps.results.facts import Facts
from sweeps.results.summary import Row


def _weights(run: Facts) -> float | None:
    return sum(layer.active for layer in run.layers) or None


def _flops(run: Facts) -> float | None:
    """Return the operations of a forward pass, mean over tasks."""
    found: Any = run.named.get("flops")
    if not isinstance(found, dict):
        return None
    tasks = found.get("tasks") or [found.get("sparse")]
    return float(np.mean(tasks)) if all(tasks) else None


def _training_flops(run: Facts) -> float | None:
    """Return the operations to train on one sample."""
    found: Any = run.named.get("flops")
    training = found.get("training") if isinstance(found, dict) else None
    return training.get("sparse") if isinstance(training, dict) else None


def _bytes(run: Facts) -> float | None:
    found: Any = run.named.get("bytes")
    return found.get("sparse") if isinstance(found, dict) else None


COSTS: dict[str, Callable[[Facts], float | None]] = {
    "active weights": _weights,
    "theoretical FLOPs of a forward pass": _flops,
    "theoretical FLOPs of training, one sample": _training_flops,
    "theoretical bytes of weights in training": _bytes,
    "CPU seconds of a run": lambda run: run.measured.get("cpu_s"),
}


def draw(sheet: Sheet) -> str:
    """Draw each row by its cost and its score, a panel for each task and cost."""
    found = [
        (task, name, _points(sheet, task, cost))
        for task in sheet.summary.tasks
        for name, cost in COSTS.items()
    ]
    jobs = [item for item in found if len({x for _, x in item[2]}) > 1]
    for task, name, points in sheet.limited(jobs):
        plot = sheet.panel(task or name, right=0.26)
        front = pareto([(x, row.estimate.value) for row, x in points if row.estimate is not None])
        plot.step(*zip(*front, strict=True), where="post", color=MUTED, linewidth=0.9)
        alike: dict[tuple[str, str], list[tuple[float, Estimate]]] = {}
        for row, x in points:
            look = sheet.look(row)
            assert row.estimate is not None
            alike.setdefault((look.colour, look.marker), []).append((x, row.estimate))
        for (colour, marker), dots in alike.items():
            bars = [(x, by.interval) for x, by in dots if by.interval is not None]
            lows, highs = [bar.low for _, bar in bars], [bar.high for _, bar in bars]
            plot.vlines([x for x, _ in bars], lows, highs, color=colour, linewidth=0.9)
            values = [by.value for _, by in dots]
            plot.plot([x for x, _ in dots], values, marker, markersize=5, color=colour)
        costs = [x for _, x in points]
        if max(costs) > 3 * min(costs):
            plot.set_xscale("log")
            factors = (1, 2, 5) if max(costs) < 60 * min(costs) else (1,)
            plot.xaxis.set_major_locator(LogLocator(subs=factors, numticks=6))
            plot.xaxis.set_minor_formatter(NullFormatter())
        else:
            plot.xaxis.set_major_locator(MaxNLocator(nbins=5))
        plot.xaxis.set_major_formatter(EngFormatter(sep=""))
        plot.set_ylim(*room(score for row, _ in points for score in row.scores))
        plot.set_xlabel(name)
        plot.set_ylabel(sheet.kind.score)
        on = [row.label for row, x in points if row.estimate and (x, row.estimate.value) in front]
        sheet.say(f"{name}, on the front: {', '.join(on)}")
    found_by = ways([(row, "") for row in sheet.shown])
    return (
        f"Cost against score: {found_by} over seeds with its 95% interval. The line is the front: "
        "no method to its left scores higher. Operations and bytes are counted from active "
        "weights, whatever the backend computed; seconds were measured."
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no cheaper or equally cheap one reaches, by ascending cost.

    Args:
        points: Cost and score of each.
    """
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def _points(
    sheet: Sheet, task: str, cost: Callable[[Facts], float | None]
) -> list[tuple[Row, float]]:
    found = []
    for row in sheet.summary.rows:
        known = [value for run in row.runs if (value := cost(run)) is not None]
        if row.task == task and known:
            found.append((row, float(np.mean(known))))
    return found
