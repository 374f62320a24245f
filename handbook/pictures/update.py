"""One update of RigL in a small layer: before, dropped, grown, after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor, nn

from handbook.pictures.style import DROPPED, GROWN, INK, figure, save
from sparse_core import Engine, SparseConfig, sparsify
from sparse_core.layers.companions import key

ROWS, COLUMNS, UPDATE = 8, 12, 20


@dataclass(frozen=True)
class Update:
    """A layer around its update.

    Attributes:
        before: Weights, zero where inactive.
        gradient: The dense gradient that growth looks at.
        old: The mask before.
        new: The mask after.
        after: Weights after.
    """

    before: NDArray[np.float32]
    gradient: NDArray[np.float32]
    old: NDArray[np.bool_]
    new: NDArray[np.bool_]
    after: NDArray[np.float32]


def real_update() -> Update:
    """Train a tiny layer to its first update, and return what happened there."""
    torch.manual_seed(3)
    layer = nn.Linear(COLUMNS, ROWS)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2)
    config = SparseConfig(
        method="rigl", sparsity=0.75, update_every=UPDATE, skip_step=True, dense=(), seed=1
    )
    engine = sparsify(layer, config, optimizer)
    inputs = torch.randn(256, COLUMNS)
    goal = inputs @ (torch.randn(COLUMNS, ROWS) * (torch.rand(COLUMNS, ROWS) < 0.3))
    for _ in range(UPDATE - 1):
        step(layer, optimizer, inputs, goal)
    before, old = state(engine)
    step(layer, optimizer, inputs, goal)
    after, new = state(engine)
    error = inputs @ before.T + layer.bias.detach() - goal
    gradient = 2 * error.T @ inputs / error.numel()
    return Update(before.numpy(), gradient.numpy(), old.numpy(), new.numpy(), after.numpy())


def step(layer: nn.Linear, optimizer: torch.optim.Optimizer, x: Tensor, goal: Tensor) -> None:
    """Make one step towards the goal."""
    optimizer.zero_grad()
    (layer(x) - goal).square().mean().backward()
    optimizer.step()


def state(engine: Engine) -> tuple[Tensor, Tensor]:
    """Return copies of the layer's weights and mask."""
    layer = engine.root
    mask = layer.get_buffer(key("weight", "mask")) != 0
    return (layer.get_parameter("weight") * mask).detach().clone(), mask.clone()


def draw(folder: Path) -> None:
    """Draw `update.svg`."""
    found = real_update()
    drawn = figure(10, 2.6)
    panels = drawn.subplots(1, 4)
    dropped, grown = found.old & ~found.new, found.new & ~found.old
    before, after = np.abs(found.before), np.abs(found.after)
    matrix(panels[0], np.where(found.old, before, np.nan), "before")
    matrix(panels[1], np.where(found.old, before, np.nan), "drop: the smallest weights")
    frame(panels[1], dropped, DROPPED)
    candidates = np.where(found.old, np.nan, np.abs(found.gradient))
    matrix(panels[2], candidates, "grow: the largest gradients", "YlOrBr")
    frame(panels[2], grown, GROWN)
    matrix(panels[3], np.where(found.new, after, np.nan), "after: grown ones are zero")
    frame(panels[3], grown, GROWN)
    save(drawn, folder / "update.svg")


def matrix(axes: Axes, sizes: NDArray[np.float32], title: str, colours: str = "PuBuGn") -> None:
    """Draw magnitudes, the smallest visibly coloured; cells that are NaN are left blank."""
    largest = float(np.nanmax(sizes))
    axes.pcolormesh(sizes, cmap=colours, vmin=-largest / 3, vmax=largest, edgecolors="none")
    axes.set(title=title, xticks=[], yticks=[], aspect="equal", xlim=(0, COLUMNS), ylim=(ROWS, 0))
    for x in range(COLUMNS + 1):
        axes.axvline(x, color=INK, linewidth=0.2)
    for y in range(ROWS + 1):
        axes.axhline(y, color=INK, linewidth=0.2)


def frame(axes: Axes, where: NDArray[np.bool_], colour: str) -> None:
    """Draw a frame around some cells."""
    from matplotlib.patches import Rectangle

    for row, column in np.argwhere(where):
        place = (column + 0.08, row + 0.08)
        axes.add_patch(Rectangle(place, 0.84, 0.84, fill=False, edgecolor=colour, linewidth=1.8))
