"""SparseRec's growth: gradients count in a random part of the vectors only."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparse_core.rules import growth_rule
from sparse_core.updaters.scene import Scene

SHARE = 0.5
"""The part of the users and items that may grow at an update."""


@growth_rule(needs="gradient", by_rows=True)
def sampled_rows(scene: Scene) -> Tensor:
    """|dL/dw| in a random half of the rows (SparseRec, 2024, arXiv 2411.12205).

    How large a part the paper takes is not known here; where the others would have to grow, none
    of their cells is a candidate.
    """
    drawn = torch.rand(len(scene.active), generator=scene.generator("rows"))
    resting = (drawn >= SHARE).to(scene.active.device)
    return scene.gradient.abs().masked_fill(resting[:, None], -math.inf)
