"""One sample through one condensed layer without gradients: a single call of a kernel.

Acting on one observation costs more in Python than in arithmetic. Here a layer's last link is
looked at, the input is checked in the cheapest way, and a kernel is called with addresses. What is
in any way special goes the long way (`sparse_core.layers.passes`), which computes the same numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.kernels import plan
from sparse_core.layers import torch_path
from sparse_core.layers.links import Link
from sparse_core.layers.state import Condensed


def of_one_sample(layer: Condensed, input: Tensor) -> Tensor | None:
    """Return a layer's output, `(1, out)`; None where it has to go the long way.

    Args:
        layer: A layer, while no gradients are asked for.
        input: Any input of the layer.
    """
    link, buffers, parameters = layer._link, layer._buffers, layer._parameters
    values, bias = parameters["values"], parameters["bias"]
    if (
        torch_path.looked_into()
        or type(link) is not Link
        or values is None
        or not link.holds(values, bias, layer._pattern, None)
        or layer._lineage is not None
        or layer._shared is not None
        or buffers["weight_protected"] is not None
        or buffers["weight_given"] is not None
    ):
        return None
    pattern = link.pattern
    if (
        type(input) is not Tensor
        or input.shape != (1, pattern.in_features)
        or not _is_plain(input)
        or plan.useful_threads(torch.get_num_threads(), pattern.size) > 1
    ):
        return None
    address = input.data_ptr()
    if not address:
        return None
    out: NDArray[np.float32] = np.empty((1, pattern.out_features), np.float32)
    link.one_sample(address, out)
    return torch.from_numpy(out)


def _is_plain(input: Tensor) -> bool:
    """Whether the memory of a tensor is its numbers in order, float32 on the CPU."""
    return (
        input.dtype is torch.float32
        and input.is_cpu
        and input.layout is torch.strided
        and input.is_contiguous()
        and not input.is_neg()
    )
