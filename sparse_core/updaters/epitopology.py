"""Growth by the shape of the network alone, and random drops: the rules of CHTs.

A layer is a bipartite graph of neurons and inputs, its active weights are the links. A pair u, v
that is not linked is the likelier to be, the more of the paths u - z - z' - v there are (CH2-L3n,
Zhang et al. 2025, "Brain Network Science Modelling of Sparse Neural Networks Enables Transformers
and LLMs to Perform as Fully Connected", eq. 3):

    CH2-L3n(u, v) = sum over z of (1 + i_z) / (1 + e_z)

z runs over the nodes between u and v on these paths, on both sides; i_z counts the links of z to
the other nodes between u and v, e_z its links to others still, u and v left out. No gradient is
looked at. The soft rules draw without replacement, with probabilities in proportion to a score:
the highest of log(score) + Gumbel noise are such a draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_core.rules import drop_rule, growth_rule
from sparse_core.updaters.scene import Scene

NEVER_FIRST = -1e6
"""What stands for the logarithm of zero: such cells are drawn when no others are left."""


def ch2_l3n(links: Tensor) -> Tensor:
    """Return `(rows, cols)` float64 scores of a `(rows, cols)` bool mask; only inactive cells mean.

    Dense products: O(rows^2 cols + rows cols^2) operations.
    """
    adjacency = links.double()
    return _through(adjacency) @ adjacency + adjacency @ _through(adjacency.T).T


def _through(adjacency: Tensor) -> Tensor:
    """Return (1 + i_z) / (1 + e_z) of each node z on one side, as seen from each other node u."""
    common = adjacency @ adjacency.T
    external = adjacency.sum(1) - common  # with the link to v, which is the 1 of 1 + e_z
    return torch.where(common > 0, (1 + common) / external.clamp(min=1), 0)


@growth_rule()
def epitopological(scene: Scene) -> Tensor:
    """The number of short paths, weighted by how closed the community is (CH2-L3n).

    Deviation: positions without any such path are ranked at random, below all others.
    """
    scores = ch2_l3n(scene.active)
    return torch.where(scores > 0, scores, scene.random("growth") - 1)


@growth_rule()
def epitopological_soft(scene: Scene) -> Tensor:
    """Random in proportion to CH2-L3n (CHTs, Zhang et al. 2025, section 3.1)."""
    return drawn(ch2_l3n(scene.active), scene, "growth")


@drop_rule()
def soft_magnitude(scene: Scene) -> Tensor:
    """Keep at random in proportion to |w|^T (CHTs, Zhang et al. 2025, eq. 2, alpha = 1).

    T rises from 1 to 3 until topology is frozen, by T = delta / (1 - delta) where delta goes from
    0.5 to 0.75. As in the published code it is T that rises linearly.
    """
    temperature = 1 + 2 * scene.moment.progress
    return drawn(scene.weight.abs().double() ** temperature, scene, "drop").masked_fill(
        ~scene.weight.isfinite(), float("nan")
    )


def drawn(scores: Tensor, scene: Scene, purpose: str) -> Tensor:
    """Return keys whose highest ones are a draw in proportion to non-negative scores.

    Args:
        scores: `(rows, cols)` float64.
        scene: Whose random stream is drawn from.
        purpose: Names the stream.
    """
    uniform = scene.random(purpose).clamp(min=torch.finfo(torch.float64).tiny)
    logarithms = torch.where(scores > 0, scores.log(), NEVER_FIRST)
    return logarithms - (-uniform.log()).log()
