"""What masked layers share: the mask in forward, the view of the dense gradient, frozen biases.

A dense layer becomes a masked one by a change of its class: parameters, names and hooks stay, so
that optimizers, checkpoints and code that holds a reference need not know. The mask is applied in
forward, hence gradients of inactive weights are exactly zero, `clip_grad_norm_` sees the active
ones only, and methods that write parameters directly (line searches, evolution strategies) are
right too.

What lies beside a parameter is in `sparse_core.layers.companions`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparse_core.layers.companions import declare, forget, key
from sparse_core.layers.copies import Copied, Lineage, announce, release, see_training
from sparse_core.layers.kinds import become, own_class
from sparse_core.layers.tap import GradientTap
from sparse_core.layers.translation import to_dense, to_masked


class Masked(Copied):
    """A layer with a mask on one or several of its parameters."""

    def settle(self) -> None:
        """Extend the masks of a layer that is averaged by hand to weights that the original grew.

        Raises:
            InputError: If the average cannot be right.
        """
        lineage = self._lineage
        if lineage is None:
            return
        self.check_average()
        for name, grown in lineage.grown.items():
            mask, weight = self.get_buffer(key(name, "mask")), getattr(self, name)
            if not isinstance(weight, nn.Parameter):
                continue  # a functional call brings weights of its own, with masks of their own
            outside = (weight != 0) & (mask == 0)
            full = ((mask != 0) | outside).to(mask.dtype)
            if not bool((outside & ~grown).any()) and not torch.equal(full, mask):
                mask.copy_(full)

    def _placed(self) -> list[Tensor]:
        names = [name for name in masked_parameters(self) if self._keeps_values(name)]
        scores = [self._parameters.get(key(name, "scores")) for name in names]
        tensors = [*(self._parameters.get(name) for name in names), *scores]
        return [tensor for tensor in tensors if tensor is not None]

    def _keeps_values(self, name: str) -> bool:
        """Whether inactive weights keep their values: they train, or scores choose among them."""
        companions = (getattr(self, key(name, what), None) for what in ("backward", "scores"))
        return any(companion is not None for companion in companions)

    def _original_moves(self, lineage: Lineage, parameter: str, grown: Tensor | None) -> None:
        super()._original_moves(lineage, parameter, grown)
        protected = self._buffers.get(key(parameter, "protected"))
        if grown is None or protected is not None or self._keeps_values(parameter):
            return
        mask = self.get_buffer(key(parameter, "mask"))
        places = torch.zeros(mask.numel(), dtype=torch.bool, device=mask.device)
        places[grown.to(mask.device)] = True
        so_far = lineage.grown.get(parameter)
        shaped = places.reshape(mask.shape)
        lineage.grown[parameter] = shaped if so_far is None else so_far | shaped

    def _take_dense_form(self, latent: bool) -> None:
        for name in masked_parameters(self):
            parameter = self.get_parameter(name)
            weight = parameter if latent else masked_weight(self, name)
            dense = nn.Parameter(weight.detach().clone(), parameter.requires_grad)
            self.register_parameter(name, dense)
            forget(self, name)
            delattr(self, f"{name}_tap")
        release(self)
        self.__class__ = own_class(self)  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        if self._lineage is not None and not self._lineage.written(self._placed()):
            self.settle()
        return self.__dict__

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        self.settle()
        super()._save_to_state_dict(destination, prefix, keep_vars)

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
        for name in masked_parameters(self):
            mask = state_dict.get(key(f"{prefix}{name}", "mask"))
            if isinstance(mask, Tensor) and mask.shape == self.get_parameter(name).shape:
                announce(self, f"{prefix}{name}", name, mask.reshape(-1).nonzero().squeeze(1))
            if key(name, "mask") in self._non_persistent_buffers_set:
                to_dense(state_dict, f"{prefix}{name}")
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
    release(layer)
    become(layer, masked_type)
    declare(layer, parameter, condensed=False)
    setattr(layer, key(parameter, "mask"), torch.ones_like(values, requires_grad=False))
    setattr(layer, f"{parameter}_tap", GradientTap())


def masked_parameters(layer: nn.Module) -> list[str]:
    """List the parameters of a layer that have a mask, in their order."""
    return [name for name in layer._parameters if key(name, "mask") in layer._buffers]


def masked_weight(layer: nn.Module, parameter: str = "weight") -> Tensor:
    """Return weight * mask, watched by the gradient tap; the plain weight if it has no mask."""
    parameters, buffers = layer._parameters, layer._buffers  # in small layers getattr costs most
    found = parameters.get(parameter)
    weight: Tensor = getattr(layer, parameter) if found is None else found
    mask = buffers.get(f"{parameter}_mask")
    if mask is None:
        return weight
    copied = layer if isinstance(layer, Masked) and layer._lineage is not None else None
    if copied is not None:
        copied.settle()
    protected, backward = buffers[f"{parameter}_protected"], buffers[f"{parameter}_backward"]
    trained = weight
    if protected is not None:
        frozen = buffers[f"{parameter}_frozen"]
        trained = torch.where(protected, weight.detach() if frozen is None else frozen, weight)
    scores = parameters.get(f"{parameter}_scores")
    if scores is not None:
        popularity = scores.abs()
        mask = mask + (popularity - popularity.detach())
    masked = trained * mask
    lent = buffers[f"{parameter}_lent"]
    if lent is not None:
        masked = torch.where(lent, trained, masked)
    if backward is not None:
        wide = trained * backward
        masked = wide + (masked - wide).detach()
    if copied is not None:
        see_training(copied, masked)
    tap: GradientTap = getattr(layer, f"{parameter}_tap")
    if tap.armed:
        tap.watch(masked, weight)
    return masked


def gated_bias(layer: nn.Module, parameter: str = "weight", bias: str = "bias") -> Tensor | None:
    """Return the bias, through which no gradient flows to neurons that do not train."""
    values = layer._parameters.get(bias)
    if values is None:
        values = getattr(layer, bias)
    if values is None:
        return None
    buffers = layer._buffers
    given, live = buffers.get(f"{parameter}_given"), buffers.get(f"{parameter}_live")
    trained: Tensor = values
    if given is not None:
        trained = torch.where(getattr(layer, f"{parameter}_reserved"), given, trained)
    if live is None or not torch.is_grad_enabled():
        return trained
    return torch.where(live, trained, trained.detach())
