"""What masked layers share: the mask in forward, the view of the dense gradient, frozen biases.

A dense layer becomes a masked one by a change of its class: parameters, names and hooks stay, so
that optimizers, checkpoints and code that holds a reference need not know. The mask is applied in
forward, hence gradients of inactive weights are exactly zero, `clip_grad_norm_` sees the active
ones only, and methods that write parameters directly (line searches, evolution strategies) are
right too.

Weights may be protected (they belong to an earlier task): a layer can read them where its mask
includes them, but no gradient reaches them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GradientTap:
    """Keeps the dense gradient of one masked weight, when asked to.

    The value follows the rules of `.grad`: contributions of one backward pass are added up, those
    of several passes too, unless the gradient was reset in between. A backward pass through the
    layer that another optimizer wants (an actor's loss through its critic) is thereby forgotten at
    the next `zero_grad`, just as in `.grad` itself.
    """

    def __init__(self) -> None:
        self.armed = False
        self.value: Tensor | None = None
        self._pass = -1

    def arm(self, on: bool) -> None:
        """Watch the next backward passes, or stop and forget."""
        self.armed = on
        self.value = None
        self._pass = -1

    def watch(self, masked: Tensor, weight: Tensor) -> None:
        """Be told the gradient of `masked` = weight * mask when it is computed."""
        if self.armed and masked.requires_grad:
            masked.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._receive(gradient, weight)
            )

    def _receive(self, gradient: Tensor, weight: Tensor) -> None:
        current = torch._C._current_graph_task_id()
        fresh = weight.grad is None or not bool(weight.grad.any())
        if self.value is None or (current != self._pass and fresh):
            self.value = gradient.detach().clone()
        else:
            self.value = self.value + gradient.detach()
        self._pass = current


def become_masked(layer: nn.Module, masked_type: type[nn.Module]) -> None:
    """Turn a dense layer into its masked form, in place, with a mask of ones.

    Args:
        layer: A module whose type `masked_type` derives from.
        masked_type: The masked type.
    """
    weight = layer.get_parameter("weight")
    layer.__class__ = masked_type
    layer.register_buffer("weight_mask", torch.ones_like(weight, requires_grad=False))
    layer.register_buffer("weight_protected", None, persistent=False)
    layer.register_buffer("live_rows", None, persistent=False)
    object.__setattr__(layer, "weight_tap", GradientTap())


def masked_weight(layer: nn.Module) -> Tensor:
    """Return weight * mask of a masked layer, watched by its gradient tap."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    protected: Tensor | None = layer.weight_protected  # type: ignore[assignment]
    trained = weight if protected is None else torch.where(protected, weight.detach(), weight)
    masked = trained * layer.weight_mask  # type: ignore[operator]
    layer.weight_tap.watch(masked, weight)  # type: ignore[operator, union-attr]
    return masked


def gated_bias(layer: nn.Module) -> Tensor | None:
    """Return the bias, through which no gradient flows to ablated neurons."""
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    live: Tensor | None = layer.live_rows  # type: ignore[assignment]
    if bias is None or live is None:
        return bias
    return torch.where(live, bias, bias.detach())
