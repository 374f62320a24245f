"""What each layer became: its density, and how many of its neurons are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sweeps.figures.sheet import Sheet
from sweeps.results.facts import Layer
from sweeps.results.summary import Row

MOST_NAMED = 12


def density(sheet: Sheet) -> str:
    """Draw the density of each layer, a panel for each task and setting."""
    _draw(sheet, lambda layer: layer.density, "density")
    plots = [plot for panel in sheet.panels for plot in panel.figure.axes]
    for plot in plots:
        plot.set_yscale("log")
        plot.set_ylim(top=1.3)
    sheet.share(y=True)
    for plot in plots:
        low = plot.get_ylim()[0]
        factors = (1, 2, 5) if low > 0.008 else (1,)
        every = [factor * 10.0**power for power in range(-6, 1) for factor in factors]
        ticks = [tick for tick in every if low <= tick <= 1]
        plot.set_yticks(ticks, [f"{100 * tick:.4g}%" for tick in ticks])
        plot.minorticks_off()
    return "Density of each layer at the end, mean over seeds; logarithmic."


def neurons(sheet: Sheet) -> str:
    """Draw the fraction of each layer's neurons that have an active weight."""
    _draw(sheet, _live, "neurons with a weight")
    for panel in sheet.panels:
        panel.figure.axes[0].set_ylim(0, 1.05)
    return (
        "Fraction of each layer's neurons that have an active weight at the end, mean over seeds."
    )


def _live(layer: Layer) -> float | None:
    return None if layer.live is None or not layer.neurons else layer.live / layer.neurons


def _draw(sheet: Sheet, measure: Callable[[Layer], float | None], said: str) -> None:
    for part in sheet.parts():
        rows = [(row, _by_layer(row, measure)) for row, _ in part.rows]
        rows = [(row, found) for row, found in rows if found]
        if not rows or all(value == 1 for _, found in rows for value in found.values()):
            continue
        layers = list(dict.fromkeys(name for _, found in rows for name in found))
        names = dict(zip(layers, _shortened(layers), strict=True))
        longest = max(map(len, names.values())) if len(layers) <= MOST_NAMED else 3
        bottom = 0.35 + 0.055 * longest
        words = "; ".join(
            f"{sheet.label(row)}: "
            + ", ".join(f"{names[key]} {value:.3g}" for key, value in found.items())
            for row, found in rows
        )
        plot = sheet.panel(part.title, words, left=0.75, bottom=bottom, height=2.6 + bottom)
        for row, found in rows:
            look = sheet.look(row)
            plot.plot(
                [layers.index(name) for name in found],
                list(found.values()),
                color=look.colour,
                linestyle=look.line,
                linewidth=1.3,
                marker=look.marker,
                markersize=4,
            )
        plot.set_ylabel(said)
        if len(layers) <= MOST_NAMED:
            plot.set_xticks(
                range(len(layers)), list(names.values()), rotation=40, ha="right", size=7.5
            )
        else:
            plot.set_xlabel("layer, from the input")
        plot.set_xlim(-0.4, len(layers) - 0.6)


def _by_layer(row: Row, measure: Callable[[Layer], float | None]) -> dict[str, float]:
    """Return the mean over runs of what is measured of each layer."""
    found: dict[str, list[float]] = {}
    for run in row.runs:
        for layer in run.layers:
            if (value := measure(layer)) is not None:
                found.setdefault(layer.name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _shortened(names: Sequence[str]) -> list[str]:
    """Return names without the parts that all begin or end with."""
    parts = [name.removesuffix(".weight").split(".") for name in names]
    while all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) == 1:
        parts = [part[1:] for part in parts]
    return [".".join(part[-2:]) for part in parts]
