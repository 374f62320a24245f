"""A mask that moves through training: an animation of the first layer of a network on digits."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from continual.runs.data import digits
from handbook.pictures.style import ACTIVE, figure
from sparse_core import SparseConfig, sparsify
from sparse_core.layers.companions import key

NEURONS, SIDE, SHOWN, UPDATES, EVERY = 100, 8, 24, 30, 20


def masks() -> list[NDArray[np.bool_]]:
    """Train on scikit-learn's digits; return the first layer's mask before and after updates."""
    torch.manual_seed(0)
    data = digits()
    net = nn.Sequential(nn.Linear(SIDE**2, NEURONS), nn.ReLU(), nn.Linear(NEURONS, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    config = SparseConfig(
        method="rigl", sparsity=0.95, distribution="uniform", dense=("output",), update_every=EVERY,
        drop_fraction=0.3, horizon=UPDATES * EVERY, stop_at=1.0,
    )  # fmt: skip
    sparsify(net, config, optimizer)
    found = []
    for step in range(UPDATES * EVERY):
        if step % EVERY == 0:
            found.append((net[0].get_buffer(key("weight", "mask")) != 0).numpy().copy())
        batch = torch.randint(len(data.train_x), (64,))
        loss = nn.functional.cross_entropy(net(data.train_x[batch]), data.train_y[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return found


def frame(mask: NDArray[np.bool_], number: int) -> Image.Image:
    """Draw one moment."""
    drawn = figure(6.4, 2.9)
    drawn.set_facecolor("white")
    pixels, rows = drawn.subplots(1, 2, width_ratios=(1, 2.6))
    pixels.imshow(mask.sum(0).reshape(SIDE, SIDE), cmap="viridis", vmin=0, vmax=15)
    pixels.set(title="neurons that read a pixel", xticks=[], yticks=[])
    blank = np.ones((SHOWN, SIDE**2, 3))
    colour = [int(ACTIVE[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    blank[mask[:SHOWN]] = colour
    rows.imshow(blank, aspect="auto", interpolation="nearest")
    rows.set(
        title=f"mask after {number} updates, {mask.sum()} weights",
        xlabel="pixel, row after row",
        ylabel="neuron",
        yticks=[],
    )
    memory = io.BytesIO()
    drawn.savefig(memory, dpi=100, facecolor="white", format="png")
    return Image.open(memory).convert("RGB")


def draw(folder: Path) -> None:
    """Draw `moving_mask.gif`."""
    images = [frame(mask, number) for number, mask in enumerate(masks())]
    palette = images[len(images) // 2].quantize(64)
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    pauses = [900, *[220] * (len(frames) - 2), 2500]
    frames[0].save(
        folder / "moving_mask.gif",
        save_all=True,
        append_images=frames[1:],
        duration=pauses,
        loop=0,
        optimize=True,
    )
