"""First masks and first weights of a sparse layer.

A neuron with k of n inputs needs weights sqrt(n / k) times as large as the dense layer's to pass
on a signal of the same variance (Evci et al. 2022, "Gradient Flow in Sparse Neural Networks",
section 3). A token of an embedding with k of n entries needs the same factor to keep its length;
before that, `kaiming` draws tokens from N(0, 1), as `nn.Embedding` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparse_core.budgets.receptive_fields import receptive_field
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.streams import stream
from sparse_core.weights.tensor import SparseTensor


def draw_mask(
    tensor: SparseTensor,
    config: SparseConfig,
    index: int = 0,
    scores: Tensor | None = None,
    *,
    initial: bool = False,
) -> Tensor:
    """Return a mask that the tensor's structure allows and that fills its budget.

    Args:
        tensor: The sparse weight.
        config: Its seed, and what masks look like.
        index: Names the draw; each task has its own.
        scores: Keep the highest of these, in the weight's shape; None: a random mask.
        initial: Fill the initial budget, if it is larger as far as it is available.

    Returns:
        `(rows, cols)` bool on the weight's device.

    Raises:
        ValueError: If too few weights are available.
    """
    shape = (tensor.rows, tensor.cols)
    if scores is None:
        generator = stream(config.seed, "mask", index, tensor.name)
        draws = torch.rand(shape, generator=generator, dtype=torch.float64)
        if config.receptive_field is not None:
            draws = receptive_field(tensor.shape, config.receptive_field, draws)
        ranked = tensor.structure.alike(draws)
    else:
        ranked = scores.detach().reshape(shape).double().cpu()
    available, live = tensor.available(), tensor.open_lanes()
    budget = tensor.budget
    if initial:
        free = tensor.numel if available is None else int(available.sum())
        budget = min(tensor.initial_budget, max(budget, free))
    if live is not None and available is not None and int(available.sum()) < budget:
        raise InputError(
            f"layer {tensor.name!r} is full: {budget} free places are needed in neurons of its "
            f"own, {int(available.sum())} are left"
        )
    try:
        mask = tensor.structure.initial(
            *shape,
            budget,
            ranked,
            None if available is None else available.cpu(),
            None if live is None else live.cpu(),
        )
    except ValueError as error:
        raise InputError(f"layer {tensor.name!r} is full: {error}") from None
    return mask.to(tensor.weight.device)


def redraw(tensors: Sequence[SparseTensor], config: SparseConfig, index: int) -> None:
    """Begin anew with random masks and weights; see `Engine.redraw`.

    Raises:
        ValueError: If a layer has too few free weights left. Nothing is changed then.
    """
    moves = config.density_moves
    masks = [draw_mask(tensor, config, index, initial=moves) for tensor in tensors]
    for tensor, mask in zip(tensors, masks, strict=True):
        tensor.start(mask)
        if tensor.companion("scores") is None:
            initialise(tensor, "kaiming", config.seed, index)


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
        variance = tensor.cols if isinstance(tensor.layer, nn.Embedding) else 2
        new = draws.to(fan_in.device) * math.sqrt(variance) / fan_in.sqrt()
    tensor.write(new)
