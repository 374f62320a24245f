"""The critic of SimBa by itself: bare modules, a training step with AdamW.

Two residual blocks of width 512, or one of 128 (Lee et al. 2025, "SimBa: Simplicity Bias for
Scaling Up Parameters in Deep Reinforcement Learning", section 4): a linear embedding of 17 observed
numbers and 6 actions, blocks x + W2 relu(W1 layer_norm(x)) with four times the width inside, a last
layer_norm and a linear head. Layers have one sparsity; the head stays dense. The running
normalisation of observations is left out. Condensed critics have the AdamW of `sparse_core.optim`,
others torch's fused one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sweeps.bench.learning import ACTIONS, CLOCKS, OBSERVATIONS
from sweeps.bench.rl_records import Record
from sweeps.bench.timing import in_turns

if TYPE_CHECKING:
    from torch import nn

SIZES = ((512, 2), (128, 1))
"""Width and number of blocks: SimBa's critic, and a critic of the size of its actor."""

BATCH = 256
SETTINGS = (
    ("masked", 0.9, 1),
    ("condensed", 0.8, 1),
    ("condensed", 0.9, 1),
    ("condensed", 0.9, 4),
)
"""Backend, sparsity and group."""


def critic(width: int, blocks: int) -> nn.Module:
    """Return the dense critic."""
    from torch import Tensor, nn

    class Block(nn.Module):
        """x + W2 relu(W1 layer_norm(x))."""

        def __init__(self) -> None:
            super().__init__()
            inside = 4 * width
            layers = nn.Linear(width, inside), nn.ReLU(), nn.Linear(inside, width)
            self.inner = nn.Sequential(nn.LayerNorm(width), *layers)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.inner(x)
            return y

    head = nn.LayerNorm(width), nn.Linear(width, 1)
    first = nn.Linear(OBSERVATIONS + ACTIONS, width)
    return nn.Sequential(first, *[Block() for _ in range(blocks)], *head)


def training_step(
    backend: str,
    sparsity: float,
    group: int,
    device: str = "cpu",
    size: tuple[int, int] = SIZES[0],
) -> Callable[[], object]:
    """Return a training step on random data; `backend="dense"` for dense weights."""
    import torch

    from sparse_core import SparseConfig, sparsify
    from sparse_core.optim import AdamW

    torch.manual_seed(0)
    net = critic(*size).to(device)
    if backend != "dense":
        config = SparseConfig(
            method="static",
            sparsity=sparsity,
            structure="constant_fan_in",
            group=group,
            distribution="uniform",
            backend=backend,
            dense=("output",),
        )
        sparsify(net, config, batch=BATCH)
    optimizer = (
        AdamW(net.parameters(), 1e-4)
        if backend == "condensed"
        else torch.optim.AdamW(net.parameters(), 1e-4, fused=True)  # the fastest that torch has
    )
    x, target = torch.randn(BATCH, OBSERVATIONS + ACTIONS), torch.randn(BATCH, 1)
    x, target = x.to(device), target.to(device)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(net(x), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def measure(size: tuple[int, int], rounds: int, clock: str) -> list[Record]:
    """Time the training steps in turns.

    Args:
        size: Width and number of blocks.
        rounds: Turns of each.
        clock: Name of a clock of `sweeps.bench.learning.CLOCKS`.
    """
    settings = {"dense": ("dense", 0.0, 1)} | {
        f"{backend} {sparsity} {group}": (backend, sparsity, group)
        for backend, sparsity, group in SETTINGS
    }
    calls = {name: training_step(*setting, size=size) for name, setting in settings.items()}
    medians = in_turns(calls, rounds=rounds, block=0.05, clock=CLOCKS[clock])
    found = []
    for name, (backend, sparsity, group) in settings.items():
        median, ratio = medians[name] / 1000, medians["dense"] / medians[name]
        method = "dense" if backend == "dense" else "static"
        found.append(
            Record(
                "simba", (size[0],) * size[1], sparsity, method, group, backend, round(median, 3),
                round(ratio, 3), "step", "torch", round(median, 3), round(ratio, 3), None,
            )
        )  # fmt: skip
    return found
