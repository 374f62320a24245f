"""One sample through condensed layers without gradients: a single call of a kernel for each.

Acting on one observation costs more in Python than in arithmetic. Here a layer's last link is
looked at, the input is checked in the cheapest way, and a kernel is called with addresses. What is
in any way special goes the long way (`sparse_core.layers.passes`), which computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_core.kernels import plan
from sparse_core.layers import torch_path
from sparse_core.layers.links import Link, layers_of
from sparse_core.layers.state import Condensed

_ACTIVATIONS = (None, "relu", "tanh")  # what `chain_of_one_sample` computes


def of_one_sample(layer: Condensed, input: Tensor) -> Tensor | None:
    """Return a layer's output, `(1, out)`; None where it has to go the long way.

    Args:
        layer: A layer, while no gradients are asked for.
        input: Any input of the layer.
    """
    link = None if torch_path.looked_into() else _plain_link(layer, None)
    if link is None or not _is_sample(input, link.pattern.in_features):
        return None
    address = input.data_ptr()
    if not address:
        return None
    out: NDArray[np.float32] = np.empty((1, link.pattern.out_features), np.float32)
    link.one_sample(address, out)
    return torch.from_numpy(out)


def chain_of_one_sample(steps: Sequence[nn.Module], input: Tensor) -> Tensor | None:
    """Return what a chain makes of one sample, `(1, out)`; None where it has to go the long way.

    Args:
        steps: Condensed linear layers, each with an activation behind it or none, while no
            gradients are asked for.
        input: Any input of the first.
    """
    if torch_path.looked_into():
        return None
    links: list[Link] = []
    for layer, activation in layers_of(steps):
        link = _plain_link(layer, activation) if activation in _ACTIVATIONS else None
        if link is None:
            return None
        links.append(link)
    if not links or not _is_sample(input, links[0].pattern.in_features):
        return None
    address = input.data_ptr()
    if not address:
        return None
    for link in links:
        out: NDArray[np.float32] = np.empty((1, link.pattern.out_features), np.float32)
        link.one_sample(address, out)
        if link.activation == "tanh":
            np.tanh(out, out)
        result = torch.from_numpy(out)
        address = result.data_ptr()
    return result


def _plain_link(layer: Condensed, activation: str | None) -> Link | None:
    """Return the link of a layer that holds, reads its own weights and no others, on one thread."""
    link, buffers, parameters = layer._link, layer._buffers, layer._parameters
    values, bias = parameters["values"], parameters["bias"]
    if (
        type(link) is not Link
        or values is None
        or not link.holds(values, bias, layer._pattern, activation)
        or layer._lineage is not None
        or layer._shared is not None
        or buffers["weight_protected"] is not None
        or buffers["weight_given"] is not None
        or plan.useful_threads(torch.get_num_threads(), link.pattern.size) > 1
    ):
        return None
    return link


def _is_sample(input: Tensor, features: int) -> bool:
    """Whether an input is one sample whose memory is its numbers in order, float32 on the CPU."""
    return type(input) is Tensor and input.shape == (1, features) and _is_plain(input)


def _is_plain(input: Tensor) -> bool:
    """Whether the memory of a tensor is its numbers in order, float32 on the CPU."""
    return (
        input.dtype is torch.float32
        and input.is_cpu
        and input.layout is torch.strided
        and input.is_contiguous()
        and not input.is_neg()
    )
