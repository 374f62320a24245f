"""A growth rule of one's own: the largest gradients of each neuron, by its own measure."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_core import growth_rule


@growth_rule(needs="gradient", by_rows=True)
def relative_gradient(scene) -> Tensor:
    """Grow where the gradient is large beside that of the same neuron's other weights."""
    size = scene.gradient.abs()
    return size / size.mean(1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
