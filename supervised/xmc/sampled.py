"""A sample of the labels in the place of all: which ones a step looks at, and their scores.

A step takes the labels that some sample of its batch has, and `count` of the others, drawn
uniformly and without replacement; each of these is drawn with probability q = count / others. The
loss is corrected for that:

    bce, squared_hinge    what a drawn label costs counts 1/q times, so value and gradient are on
                          average those of all labels (Horvitz and Thompson 1952)
    softmax               log(1/q) is added to the logit of a drawn label, so the sum of all
                          exponentials is right on average (Bengio and Senecal 2008; Jean et al.
                          2015, section 3.1); of its logarithm that is true in the limit only

Only the scores of these labels are computed. That needs no gradient at inactive weights, so it goes
with methods whose growth sees none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_core.checks import InputError
from sparse_core.layers.compact import CompactInput
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.masked import masked_weight


@dataclass(frozen=True)
class Drawn:
    """The labels of a step.

    Attributes:
        labels: `(m,) int64`, those of the batch, ascending, and after them those that were drawn,
            ascending.
        own: How many are of the batch.
        scale: 1/q: how many labels a drawn one stands for.
    """

    labels: Tensor
    own: int
    scale: float

    def places(self, labels: Tensor) -> Tensor:
        """Return where labels of the batch are among these, `(entries,) int64`."""
        return torch.searchsorted(self.labels[: self.own], labels)


def draw(labels: Tensor, width: int, count: int, generator: torch.Generator) -> Drawn:
    """Draw the labels of a step.

    Args:
        labels: `(entries,) int64`, the labels of its samples.
        width: How many labels there are.
        count: How many to draw of those that none of the samples has.
        generator: What draws.
    """
    own = torch.unique(labels)
    others = width - len(own)
    count = min(count, others)
    seed = int(torch.randint(1 << 62, (), generator=generator))
    ranks = np.random.Generator(np.random.PCG64(seed)).choice(others, count, replace=False)
    # The rank among the others, and how many of the batch's labels are below it.
    rank = torch.from_numpy(np.sort(ranks))
    drawn = rank + torch.searchsorted(own - torch.arange(len(own)), rank, right=True)
    return Drawn(torch.cat([own, drawn]), len(own), others / count if count else 1.0)


def scores(
    blocks: Iterable[tuple[int, nn.Module]], x: Tensor | CompactInput, labels: Tensor
) -> Tensor:
    """Return the scores of some labels, `(n, m)`, with their graph.

    Args:
        blocks: Layers, each with its first label.
        x: Their input.
        labels: `(m,) int64`, in any order.

    Raises:
        InputError: If a layer's scores cannot be had one by one.
    """
    order, found = [], []
    starts = [*blocks]
    ends = [begin for begin, _ in starts[1:]] + [int(labels.max()) + 1]
    for (begin, layer), end in zip(starts, ends, strict=True):
        places = ((labels >= begin) & (labels < end)).nonzero()[:, 0]
        order.append(places)
        found.append(_of_rows(layer, x, labels[places] - begin))  # none: its gradient is zero
    back = torch.cat(order).argsort()
    return torch.cat(found, 1)[:, back]


def _of_rows(layer: nn.Module, x: Tensor | CompactInput, rows: Tensor) -> Tensor:
    if isinstance(layer, CondensedLinear):
        return _of_condensed(layer, x, rows)
    if not isinstance(layer, nn.Linear) or isinstance(x, CompactInput):
        raise InputError(f"{type(layer).__name__} has no scores of single labels")
    return F.linear(x, masked_weight(layer)[rows], layer.bias[rows])


def _of_condensed(layer: CondensedLinear, x: Tensor | CompactInput, rows: Tensor) -> Tensor:
    pattern = layer.pattern
    if pattern.group > 1:
        raise InputError(
            f"group={pattern.group}: sampled labels need rows of their own columns", "group"
        )
    lengths = torch.from_numpy(pattern.lengths.astype(np.int64))
    ends, few = lengths.cumsum(0)[rows], lengths[rows]
    longest = torch.arange(int(few.max()) if len(rows) else 0)
    real = longest < few[:, None]
    slots = torch.where(real, (ends - few)[:, None] + longest, 0)
    columns = torch.from_numpy(pattern.columns[slots.numpy()].astype(np.int64))
    values = layer.values[slots] * real
    if isinstance(x, CompactInput):
        # A column that no sample has is read at a place of zeros.
        numbers = F.pad(x.numbers, (0, 1))
        places = torch.searchsorted(x.columns, columns)
        hit = torch.cat([x.columns, torch.tensor([-1])])[places] == columns
        read = numbers[:, torch.where(hit, places, len(x.columns))]
    else:
        read = x[:, columns]
    return torch.einsum("nmf,mf->nm", read, values) + layer.bias[rows]
