"""What masked layers share: the mask in forward, the view of the dense gradient, frozen biases.

A dense layer becomes a masked one by a change of its class: parameters, names and hooks stay, so
that optimizers, checkpoints and code that holds a reference need not know. The mask is applied in
forward, hence gradients of inactive weights are exactly zero, `clip_grad_norm_` sees the active
ones only, and methods that write parameters directly (line searches, evolution strategies) are
right too.

Beside its mask, a sparse parameter `weight` has these companions in its layer, None when unused:

    weight_seen       1 = has ever been active
    weight_backward   1 = receives a gradient though it may be inactive (Top-KAST, SR-STE)
    weight_scores     a parameter: the mask is chosen by it, and passes its gradient on to it
    weight_protected  bool, weights of earlier tasks: read where the mask includes them, never
                      written
    weight_frozen     in the weight's shape, what protected weights are worth: it is read in their
                      place, so nothing that happens to the parameter changes them
    weight_lent       bool, protected weights that are read though the mask leaves them out
    weight_reserved   (rows,) bool, neurons of earlier tasks, where the mask has no weights
    weight_given      (rows,) the biases of those neurons, read in the place of the bias itself
    weight_live       (rows,) bool, neurons whose bias trains: not ablated, not reserved; None: all
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparse_core.layers.tap import GradientTap
from sparse_core.layers.translation import to_masked


class Masked(nn.Module):
    """A layer with a mask on one or several of its parameters."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        weight = self._parameters.get("weight")
        if weight is not None and f"{prefix}values" in state_dict:
            try:
                to_masked(state_dict, prefix, tuple(weight.shape))
            except ValueError as error:
                error_msgs.append(f"{prefix.rstrip('.') or 'layer'}: {error}")
                return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def become_masked(
    layer: nn.Module, masked_type: type[nn.Module], parameter: str = "weight"
) -> None:
    """Turn a dense layer into its masked form, in place, with a mask of ones for one parameter.

    Args:
        layer: A module whose type `masked_type` derives from, or that has become masked already.
        masked_type: The masked type.
        parameter: The parameter that gets a mask.
    """
    values = layer.get_parameter(parameter)
    layer.__class__ = masked_type
    layer.register_buffer(f"{parameter}_mask", torch.ones_like(values, requires_grad=False))
    layer.register_buffer(f"{parameter}_seen", None)
    layer.register_buffer(f"{parameter}_backward", None)
    for derived in ("protected", "frozen", "lent", "reserved", "given", "live"):
        layer.register_buffer(f"{parameter}_{derived}", None, persistent=False)
    setattr(layer, f"{parameter}_tap", GradientTap())


def become_dense(layer: nn.Module, dense_type: type[nn.Module]) -> None:
    """Turn a masked layer into its dense form, in place, with zeros where its masks have them.

    Args:
        layer: A masked layer.
        dense_type: The type that its own derives from.
    """
    for name in [key.removesuffix("_mask") for key in layer._buffers if key.endswith("_mask")]:
        weight = masked_weight(layer, name).detach().clone()
        layer.register_parameter(name, nn.Parameter(weight))
        for companion in [key for key in layer._buffers if key.startswith(f"{name}_")]:
            del layer._buffers[companion]
            layer._non_persistent_buffers_set.discard(companion)
        delattr(layer, f"{name}_tap")
    layer.__class__ = dense_type


def masked_weight(layer: nn.Module, parameter: str = "weight") -> Tensor:
    """Return weight * mask, watched by the gradient tap; the plain weight if it has no mask."""
    weight: Tensor = getattr(layer, parameter)
    mask: Tensor | None = getattr(layer, f"{parameter}_mask", None)
    if mask is None:
        return weight
    protected: Tensor | None = getattr(layer, f"{parameter}_protected")
    backward: Tensor | None = getattr(layer, f"{parameter}_backward")
    trained = weight
    if protected is not None:
        frozen: Tensor | None = getattr(layer, f"{parameter}_frozen")
        trained = torch.where(protected, weight.detach() if frozen is None else frozen, weight)
    scores: Tensor | None = getattr(layer, f"{parameter}_scores", None)
    if scores is not None:
        popularity = scores.abs()
        mask = mask + (popularity - popularity.detach())
    masked = trained * mask
    lent: Tensor | None = getattr(layer, f"{parameter}_lent")
    if lent is not None:
        masked = torch.where(lent, trained, masked)
    if backward is not None:
        wide = trained * backward
        masked = wide + (masked - wide).detach()
    tap: GradientTap = getattr(layer, f"{parameter}_tap")
    if tap.armed:
        tap.watch(masked, weight)
    return masked


def gated_bias(layer: nn.Module, parameter: str = "weight", bias: str = "bias") -> Tensor | None:
    """Return the bias, through which no gradient flows to neurons that do not train."""
    values: Tensor | None = getattr(layer, bias)
    if values is None:
        return None
    given: Tensor | None = getattr(layer, f"{parameter}_given", None)
    if given is not None:
        values = torch.where(getattr(layer, f"{parameter}_reserved"), given, values)
    live: Tensor | None = getattr(layer, f"{parameter}_live", None)
    return values if live is None else torch.where(live, values, values.detach())
