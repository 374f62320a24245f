"""First masks in which neighbouring neurons read neighbouring inputs.

The bipartite receptive field model (BRF; Zhang et al. 2025, "Brain Network Science Modelling of
Sparse Neural Networks ...", section 3.2 and appendix D). Inputs and neurons lie on one ring; neuron
i of n has its centre at input i m / n of m. Each neuron has equally many inputs, drawn without
replacement with probabilities in proportion to

    (1 + distance)^(-(1 - r) / r)

r = 0 takes the nearest ones, r = 1 any.

Deviations: the distance counts from 1, as in the published code; centres lie evenly on the ring
where n does not divide m; of the two distributions of degrees the fixed one is built.
"""

from __future__ import annotations

import torch
from torch import Tensor


def receptive_field(shape: tuple[int, ...], randomness: float, draws: Tensor) -> Tensor:
    """Return scores whose highest ones, of the matrix or of each row, are such a mask.

    A weight's score is minus its rank in its row. Whatever the budget, rows therefore differ by at
    most one weight; which of them have one more is random.

    Args:
        shape: Shape of the dense weight, `(out, in)` or `(out, in, *kernel)`. Places on the ring
            are channels; the weights of a kernel are at one place.
        randomness: r, in [0, 1].
        draws: `(rows, cols)` float64, uniform in [0, 1).

    Returns:
        `(rows, cols)` float64.
    """
    rows, cols = draws.shape
    places, kernel = shape[1], cols // shape[1]
    distances = ring_distances(rows, places).repeat_interleave(kernel, dim=1)
    uniform = draws.clamp(min=torch.finfo(torch.float64).tiny)
    if randomness == 0:
        keys = -distances + uniform / 2
    else:
        keys = -(1 - randomness) / randomness * distances.log1p() - (-uniform.log()).log()
    ranks = keys.argsort(1, descending=True).argsort(1)
    return -ranks.double() + uniform[:, :1] / 2


def ring_distances(rows: int, places: int) -> Tensor:
    """Return `(rows, places)` float64: how far each place is from the centre of each row."""
    centres = torch.arange(rows, dtype=torch.float64).unsqueeze(1) * places / rows
    apart = (torch.arange(places, dtype=torch.float64) - centres).abs()
    return torch.minimum(apart, places - apart)
