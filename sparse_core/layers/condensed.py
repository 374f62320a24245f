"""The condensed linear layer: it stores and trains its active weights only.

float32 on the CPU runs on the compiled kernels, float32 and bfloat16 on a GPU on Triton's, float64
on dense operations of torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_core.checks import InputError, at_least, one_of
from sparse_core.kernels.format import GROUPS, Pattern
from sparse_core.kernels.gpu.support import why_not
from sparse_core.layers import compact_pass
from sparse_core.layers.born import drawn_bias, drawn_pattern, drawn_values
from sparse_core.layers.compact import CompactInput
from sparse_core.layers.kinds import become
from sparse_core.layers.passes import run
from sparse_core.layers.single import of_one_sample
from sparse_core.layers.state import Condensed
from sparse_core.layers.torch_path import opaque
from sparse_core.streams import stream

REPLACED = ("weight", "values", "bias")
"""The parameters that condensing replaces; layers of a derived class may have others."""


class CondensedLinear(Condensed, nn.Linear):
    """`nn.Linear` with condensed weights, `(..., in)` to `(..., out)`.

    Made from an `nn.Linear` in place by `sparsify(..., backend="condensed")` or `become_condensed`,
    or born with a random topology: no matrix of all weights is made at any moment. `sparsify` takes
    a layer that was born as it is.

        CondensedLinear(768, 670_091, fan_in=32)

    Args:
        in_features: Inputs.
        out_features: Neurons.
        bias: Whether it has a bias.
        fan_in: Active weights of each neuron.
        group: Consecutive neurons that share their columns, one of
            `sparse_core.kernels.format.GROUPS`.
        seed: Seeds topology and weights, apart from every other random stream.
        dtype: float32 or float64; None: torch's default.

    Raises:
        InputError: If there are fewer inputs than `fan_in`, or something is not supported.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        fan_in: int,
        group: int = 1,
        seed: int = 0,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            at_least(name, value, 1)
        at_least("fan_in", fan_in, 1)
        one_of("group", group, GROUPS)
        if fan_in > in_features:
            raise InputError(
                f"fan_in={fan_in}: must be at most {in_features}, the inputs", field="fan_in"
            )
        nn.Module.__init__(self)
        self.in_features, self.out_features = in_features, out_features
        self.register_parameter("bias", None)
        shape, lengths = (out_features, in_features), np.full(-(-out_features // group), fan_in)
        pattern = drawn_pattern(shape, lengths, group, stream(seed, "mask"))
        values = drawn_values(pattern, "scaled", stream(seed, "initialisation"), dtype)
        if bias:
            self.bias = nn.Parameter(drawn_bias(shape, stream(seed, "bias"), dtype))
        store_condensed(self, pattern, values)

    @property
    def dense_shape(self) -> tuple[int, int]:
        """`(out, in)`."""
        return self.out_features, self.in_features

    @opaque
    def forward(self, input: Tensor | CompactInput) -> Tensor:
        """Map `(..., in)` to `(..., out)`; a `CompactInput` of n samples to `(n, out)`."""
        if isinstance(input, CompactInput):
            return compact_pass.apply(self, input)
        out = None if torch.is_grad_enabled() else of_one_sample(self, input)
        return run([self], input) if out is None else out

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        return f"{super().extra_repr()}, active={self.pattern.nnz}, group={self.group}"


def become_condensed(
    layer: nn.Linear, mask: Tensor, *, group: int = 1, capacity: int | None = None
) -> None:
    """Turn a linear layer into its condensed form, in place.

    Args:
        layer: An `nn.Linear`, float32 or float64 on the CPU, float32 or bfloat16 on a GPU.
        mask: `(out, in)` bool, True = active; rows of a group have the same columns.
        group: Consecutive neurons that share their columns, one of
            `sparse_core.kernels.format.GROUPS`.
        capacity: Weights there is room for; by default as many as the mask needs.

    Raises:
        ValueError: If the device or dtype is another, or the mask does not fit.
    """
    weight = layer.weight
    reason = why_not_condensed(weight)
    if reason is not None:
        raise InputError(f"condensed layers: {reason}")
    pattern = Pattern.from_mask(mask.cpu().numpy(), group)
    store_condensed(layer, pattern, values_of(pattern, weight, capacity))
    assert isinstance(layer, CondensedLinear)
    layer.values.requires_grad_(weight.requires_grad)


def values_of(pattern: Pattern, weight: Tensor, capacity: int | None) -> Tensor:
    """Return the values of a pattern in a matrix, where and of the dtype that it is.

    Args:
        pattern: The active weights.
        weight: `(rows, cols)`.
        capacity: How many values, if the pattern does not need more.
    """
    capacity = pattern.size if capacity is None else max(capacity, pattern.size)
    # NumPy has no bfloat16, which float32 holds exactly.
    exact = weight.detach().float() if weight.dtype == torch.bfloat16 else weight.detach()
    return torch.from_numpy(pattern.condense(exact.cpu().numpy(), capacity)).to(weight)


def why_not_condensed(weight: Tensor) -> str | None:
    """Return why nothing computes with condensed values where a weight is, or None."""
    if not weight.is_cpu:
        return why_not(weight.device, weight.dtype)
    if weight.dtype not in (torch.float32, torch.float64):
        return f"its dtype is {weight.dtype}, not float32 or float64"
    return None


def store_condensed(layer: nn.Linear, pattern: Pattern, values: NDArray[Any] | Tensor) -> None:
    """Make a linear layer condensed, in place, with a given pattern and values; its bias stays.

    Args:
        layer: A dense layer, or a condensed one.
        pattern: The active weights.
        values: (capacity,), `pattern.size` or more, which the layer keeps.
    """
    kept = values if isinstance(values, Tensor) else torch.from_numpy(values)
    become(layer, CondensedLinear)
    assert isinstance(layer, CondensedLinear)
    others = dict(layer._parameters)
    layer._parameters.clear()
    layer.register_parameter("values", nn.Parameter(kept))
    layer.register_parameter("bias", others["bias"])
    layer._parameters.update((key, others[key]) for key in others if key not in REPLACED)
    layer.in_features, layer.out_features = pattern.in_features, pattern.out_features
    layer.remember_pattern(pattern, kept.numel())
    layer.weight_tap.wants_signals = True
