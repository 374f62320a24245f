"""First masks from one look at the data: SNIP and GraSP scores for static training.

    config = SparseConfig(method="static", sparsity=0.95, scope="global")
    engine = sparsify(model, config, optimizer, scores=snip(model, loss))

`loss` is a function without arguments that runs the dense model on a batch and returns the loss.
With `SparseConfig.embeddings` the scores need `embeddings=True` as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sparse_core.budgets.selection import Selected, select

Loss = Callable[[], Tensor]


def magnitudes(module: nn.Module, *, embeddings: bool = False) -> dict[str, Tensor]:
    """Return |w|: the first mask of RLx2 (Tan et al. 2023)."""
    selected = select(module, embeddings=embeddings)
    return {item.name: _weight(item).detach().abs() for item in selected}


def snip(module: nn.Module, loss: Loss, *, embeddings: bool = False) -> dict[str, Tensor]:
    """Return |w dL/dw|, the connection sensitivity (SNIP, Lee et al. 2019, eq. 5; unnormalised).

    Args:
        module: A dense module.
        loss: Computes its loss on a batch.
        embeddings: Whether embeddings are scored too.

    Raises:
        RuntimeError: If a selected weight plays no part in the loss.
    """
    selected = select(module, embeddings=embeddings)
    gradients = torch.autograd.grad(loss(), [_weight(s) for s in selected], allow_unused=True)
    return {
        item.name: (_weight(item).detach() * gradient).abs()
        for item, gradient in _used(selected, gradients)
    }


def grasp(module: nn.Module, loss: Loss, *, embeddings: bool = False) -> dict[str, Tensor]:
    """Return w * (H g): how much a weight adds to the flow of gradient (GraSP, Wang et al. 2020).

    The published score of a weight (eq. 8) is -w (H g), and the weights with the highest scores are
    removed; here, as everywhere, the highest scores are kept, so the sign is turned.

    Args:
        module: A dense module.
        loss: Computes its loss on a batch, twice differentiable.
        embeddings: Whether embeddings are scored too.

    Raises:
        RuntimeError: If a selected weight plays no part in the loss.
    """
    selected = select(module, embeddings=embeddings)
    weights = [_weight(item) for item in selected]
    first = torch.autograd.grad(loss(), weights, create_graph=True, allow_unused=True)
    product = torch.stack([(g * g.detach()).sum() for _, g in _used(selected, first)]).sum()
    second = torch.autograd.grad(product, weights)
    return {
        item.name: _weight(item).detach() * product_row
        for item, product_row in zip(selected, second, strict=True)
    }


def _weight(item: Selected) -> nn.Parameter:
    return item.weight


def _used(
    selected: Sequence[Selected], gradients: Sequence[Tensor | None]
) -> list[tuple[Selected, Tensor]]:
    pairs = []
    for item, gradient in zip(selected, gradients, strict=True):
        if gradient is None:
            raise RuntimeError(f"layer {item.name!r} plays no part in the loss: it has no saliency")
        pairs.append((item, gradient))
    return pairs
