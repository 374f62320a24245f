"""The condensed linear layer: it stores and trains its active weights only.

    values    (capacity,)   the active weights, group after group; `sparse_core.kernels.format`
    columns   (slots,)      int32, the input of each weight (of each group of weights)
    lengths   (groups,)     int32, slots of each group; 0: ablated

Nothing changes its shape while the topology moves, so optimizers and checkpoints need no special
case. float32 on the CPU runs on the compiled kernels, float64 on plain NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_core.kernels.format import Pattern
from sparse_core.layers.tap import GradientTap


class CondensedLinear(nn.Linear):
    """`nn.Linear` with condensed weights, `(..., in)` to `(..., out)`.

    Made from an `nn.Linear` in place by `sparsify(..., backend="condensed")` or `become_condensed`.

    Attributes:
        values: The active weights, the layer's parameter.
        group: Consecutive neurons that share their columns.
        weight_tap: The view of the dense gradient.
        weight_live: `(out,)` bool, neurons that are not ablated; None: all are live.
    """

    values: nn.Parameter
    columns: Tensor
    lengths: Tensor
    group: int
    weight_tap: GradientTap
    weight_live: Tensor | None
    _pattern: Pattern | None

    @property
    def pattern(self) -> Pattern:
        """The topology, as the kernels take it.

        Raises:
            ValueError: If the state is not a topology.
        """
        if self._pattern is None:
            self._pattern = Pattern.from_lengths(
                self.columns.numpy(),
                self.lengths.numpy(),
                self.in_features,
                self.out_features,
                self.group,
            )
        return self._pattern

    def set_pattern(self, pattern: Pattern) -> None:
        """Take another topology of the same shape; the values are the caller's business.

        Raises:
            ValueError: If it does not fit into the layer's capacity.
        """
        if pattern.slots > self.columns.numel():
            raise ValueError(f"pattern has {pattern.slots} slots, room is {self.columns.numel()}")
        self.columns.zero_()
        self.columns[: pattern.slots] = torch.from_numpy(pattern.columns.astype(np.int32))
        self.lengths.copy_(torch.from_numpy(pattern.lengths))
        self._pattern = pattern

    def dense_weight(self) -> Tensor:
        """Return the `(out, in)` weight matrix, zero where inactive, detached."""
        return torch.from_numpy(self.pattern.expand(self.values.detach().numpy()))

    def forward(self, input: Tensor) -> Tensor:
        """Map `(..., in)` to `(..., out)`."""
        from sparse_core.layers.chain import run

        return run([self], input)

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        return f"{super().extra_repr()}, active={self.pattern.nnz}, group={self.group}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pattern": None}

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
        columns, lengths = (state_dict.get(prefix + name) for name in ("columns", "lengths"))
        if columns is not None and lengths is not None:
            try:
                Pattern.from_lengths(
                    _integers(columns),
                    _integers(lengths),
                    self.in_features,
                    self.out_features,
                    self.group,
                )
            except ValueError as error:
                error_msgs.append(f"{prefix.rstrip('.') or 'layer'}: {error}")
                return
        self._pattern = None
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def become_condensed(
    layer: nn.Linear, mask: Tensor, *, group: int = 1, capacity: int | None = None
) -> None:
    """Turn a linear layer into its condensed form, in place.

    Args:
        layer: An `nn.Linear` on the CPU, float32 or float64.
        mask: `(out, in)` bool, True = active; rows of a group have the same columns.
        group: Consecutive neurons that share their columns: 1, 2, 4 or 8.
        capacity: Weights there is room for; by default as many as the mask needs.

    Raises:
        ValueError: If the device or dtype is another, or the mask does not fit.
    """
    weight = layer.weight
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"condensed layers are for float32 and float64 on the CPU, got {weight.dtype} on "
            f"{weight.device}"
        )
    pattern = Pattern.from_mask(mask.numpy(), group)
    capacity = pattern.size if capacity is None else max(capacity, pattern.size)
    hold(layer, pattern, pattern.condense(weight.detach().numpy(), capacity))


def hold(layer: nn.Linear, pattern: Pattern, values: NDArray[Any]) -> None:
    """Make a linear layer condensed, in place, with weights of any shape; its bias stays.

    Args:
        layer: A dense layer, or a condensed one.
        pattern: The active weights.
        values: (capacity,) float32 or float64, `pattern.size` or more, which the layer keeps.
    """
    layer.__class__ = CondensedLinear
    assert isinstance(layer, CondensedLinear)
    bias = layer._parameters.pop("bias")
    layer._parameters.clear()
    layer.register_parameter("values", nn.Parameter(torch.from_numpy(values)))
    layer.register_parameter("bias", bias)
    layer.in_features, layer.out_features = pattern.in_features, pattern.out_features
    layer.group = pattern.group
    slots, groups = -(-values.size // pattern.group), -(-pattern.out_features // pattern.group)
    layer.register_buffer("columns", torch.zeros(slots, dtype=torch.int32))
    layer.register_buffer("lengths", torch.zeros(groups, dtype=torch.int32))
    layer.register_buffer("weight_live", None, persistent=False)
    layer.weight_tap = GradientTap()
    layer.weight_tap.wants_signals = True
    layer.set_pattern(pattern)


def become_masked_again(layer: CondensedLinear) -> Tensor:
    """Turn a condensed layer into a dense `nn.Linear`, in place; returns its `(out, in)` mask."""
    dense, mask = layer.dense_weight(), torch.from_numpy(layer.pattern.to_mask())
    for name in ("columns", "lengths", "weight_live"):
        del layer._buffers[name]
    del layer._parameters["values"]
    for name in ("group", "weight_tap", "_pattern"):
        del layer.__dict__[name]
    layer.__class__ = nn.Linear  # type: ignore[assignment]
    layer.register_parameter("weight", nn.Parameter(dense))
    return mask


def _integers(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
