"""Topologies and weights of condensed layers that never were dense, drawn at the cost of what is.

Neurons have equally many inputs, so what `sparse_core.weights.initialisation` does to a dense
layer's weights can be drawn at once:

    scaled     U(-1, 1) / sqrt(fan-in)     `nn.Linear` draws U(-1, 1) / sqrt(inputs)
    kaiming    N(0, 2 / fan-in)
    keep       U(-1, 1) / sqrt(inputs)
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.kernels.draws import random_pattern
from sparse_core.kernels.format import Pattern


def drawn_pattern(
    shape: tuple[int, int], lengths: NDArray[np.int64], group: int, generator: torch.Generator
) -> Pattern:
    """Draw the columns of each group uniformly.

    Args:
        shape: `(out, in)`.
        lengths: (groups,) int64, columns of each.
        group: Consecutive neurons that share them.
        generator: Gives the seed.
    """
    seed = int(torch.randint(1 << 62, (), generator=generator))
    return random_pattern(shape[1], shape[0], lengths, group, seed)


def drawn_values(
    pattern: Pattern, how: str, generator: torch.Generator, dtype: torch.dtype | None = None
) -> Tensor:
    """Draw the weights of a pattern, `(size,)`; places without a weight are zero.

    Args:
        pattern: The topology.
        how: `scaled`, `kaiming` or `keep`.
        generator: The stream.
        dtype: None: torch's default.
    """
    values = torch.empty(pattern.size, dtype=dtype)
    counts = torch.from_numpy(np.diff(pattern.indptr))
    if how == "kaiming":
        values.normal_(0, math.sqrt(2), generator=generator)
    else:
        values.uniform_(-1, 1, generator=generator)
    if how == "keep":
        values.div_(math.sqrt(pattern.in_features))
    elif pattern.fan_in is not None:
        values.div_(math.sqrt(pattern.fan_in))
    else:
        values.div_(counts.to(values.dtype).sqrt().repeat_interleave(counts * pattern.group))
    if pattern.tail:
        unused = int(pattern.rows[-1] + 1) * pattern.group - pattern.out_features
        last = values[int(pattern.indptr[-2]) * pattern.group :]
        last.reshape(-1, pattern.group)[:, pattern.group - unused :] = 0
    return values


def drawn_bias(
    shape: tuple[int, int], generator: torch.Generator, dtype: torch.dtype | None = None
) -> Tensor:
    """Draw a bias as `nn.Linear` does, `(out,)`."""
    bound = 1 / math.sqrt(shape[1])
    return torch.empty(shape[0], dtype=dtype).uniform_(-bound, bound, generator=generator)
