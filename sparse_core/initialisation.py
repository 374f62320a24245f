"""Initial weights of a sparse layer: each neuron's variance follows its own fan-in.

A neuron with k of n inputs needs weights sqrt(n / k) times as large as the dense layer's to pass
on a signal of the same variance (Evci et al. 2022, "Gradient Flow in Sparse Neural Networks",
section 3).
"""

from __future__ import annotations

import math

import torch

from sparse_core.streams import stream
from sparse_core.topology import SparseTensor


def initialise(tensor: SparseTensor, how: str, seed: int, index: int = 0) -> None:
    """Set the active weights of a tensor whose mask was just drawn.

    Args:
        tensor: The sparse weight; its values are those the dense layer was built with.
        how: `scaled`, `kaiming` or `keep`.
        seed: Seeds `kaiming`.
        index: Names the draw; each task has its own.
    """
    if how == "keep":
        return
    active = tensor.active()
    fan_in = active.sum(1, keepdim=True).clamp(min=1)
    if how == "scaled":
        new = tensor.values() * (tensor.cols / fan_in).sqrt()
    else:
        generator = stream(seed, "initialisation", index, tensor.name)
        draws = torch.randn(tensor.rows, tensor.cols, generator=generator)
        new = draws.to(fan_in.device) * math.sqrt(2) / fan_in.sqrt()
    new = (new * active).reshape(tensor.weight.shape).to(tensor.weight.dtype)
    if tensor.protected is not None:
        new = torch.where(tensor.protected, tensor.weight, new)
    with torch.no_grad():
        tensor.weight.copy_(new)
