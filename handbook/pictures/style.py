"""How pictures look: greys that can be read on light and dark pages, no background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK = "#808080"
ACTIVE, DROPPED, GROWN = "#009688", "#d9534f", "#e6a100"
STYLE: Any = {  # keys of `matplotlib.rcParams`
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.facecolor": "none",
    "svg.hashsalt": "dstrl",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def figure(width: float, height: float) -> Figure:
    """Return an empty figure in this style; sizes are inches."""
    matplotlib.rcParams.update(STYLE)
    return Figure(figsize=(width, height), layout="constrained")


def save(drawn: Figure, path: Path) -> None:
    """Write a figure as SVG, the same bytes each time."""
    drawn.savefig(path, metadata={"Date": None})
