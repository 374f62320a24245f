"""`OneVsAll`: a binary classifier for each label, on sparse inputs or on an intermediate layer.

The output layer is cut into blocks of labels, each a linear layer of its own, so that a training
step goes through them one after the other and never holds the logits of all labels:

    x = features, or relu(sum of the features' vectors + bias)
    for each block: logits -> loss and gradient in their place -> gradients of the block, and of x
    gradient of x -> intermediate layer

With a gradient the logits of a block are freed before the next one is computed. Where labels are
sampled (`supervised.xmc.sampled`), a step computes their logits alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sparse_core.checks import at_least
from sparse_core.layers.compact import CompactInput
from sparse_core.layers.condensed import CondensedLinear
from supervised.data.rows import Rows
from supervised.xmc.losses import Loss, softmax_
from supervised.xmc.sampled import Drawn, scores

OUTPUT, AUXILIARY = "output", "auxiliary"
"""Names of submodules."""


class OneVsAll(nn.Module):
    """Scores of all labels for sparse samples.

    Args:
        features: Inputs.
        labels: Outputs.
        intermediate: Neurons between them; None: there is no layer between. It is a dense
            `nn.EmbeddingBag` that starts as an `nn.Linear` would; its gradient is dense too.
        groups: Outputs of the auxiliary branch on the intermediate layer; 0: there is none.
        block: Labels of a block of the output layer.
        born: Whether the output layer gets no memory here: `sparsify` gives it memory for its
            active weights.

    Attributes:
        output: The blocks, in the order of labels.
    """

    def __init__(
        self,
        features: int,
        labels: int,
        *,
        intermediate: int | None = None,
        groups: int = 0,
        block: int = 65_536,
        born: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("features", features), ("labels", labels), ("block", block)):
            at_least(name, value, 1)
        self.labels = labels
        self.block = block
        self.lookup: nn.EmbeddingBag | None = None
        width = features
        if intermediate is not None:
            at_least("intermediate", intermediate, 1)
            width = intermediate
            self.lookup = nn.EmbeddingBag(features, width, mode="sum", include_last_offset=True)
            nn.init.uniform_(self.lookup.weight, -(features**-0.5), features**-0.5)
            self.bias = nn.Parameter(torch.zeros(width))
        begins = range(0, labels, block)
        device = "meta" if born else None
        self.output = nn.ModuleList(
            nn.Linear(width, min(block, labels - begin), device=device) for begin in begins
        )
        self.auxiliary = nn.Linear(width, groups) if groups else None

    def inputs(self, samples: Rows) -> Tensor | CompactInput:
        """Return what the output layer is given: `(n, intermediate)`, or the features.

        Condensed blocks get the features that some sample has, if these are few; else all.
        """
        if self.lookup is None:
            if all(isinstance(block, CondensedLinear) for block in self.output):
                return _compact(samples)
            return samples.dense()
        summed = self.lookup(samples.columns, samples.begins, per_sample_weights=samples.values)
        hidden: Tensor = torch.relu(summed + self.bias)
        return hidden

    def forward(self, samples: Rows) -> Tensor:
        """Return the logits of all labels, `(n, labels)`; for few samples or labels."""
        x = self.inputs(samples)
        return torch.cat([block(x) for block in self.output], 1)

    def blocks(self) -> Iterator[tuple[int, nn.Module]]:
        """Yield the blocks of the output layer, each with its first label."""
        for index, layer in enumerate(self.output):
            yield index * self.block, layer

    def backward(
        self,
        samples: Rows,
        labels: Rows,
        loss: Loss,
        *,
        groups: Rows | None = None,
        group_weight: float = 0.0,
        drawn: Drawn | None = None,
    ) -> Tensor:
        """Add the gradients of a batch's loss to those of the parameters, block by block.

        Args:
            samples: Features of n samples.
            labels: Their labels.
            loss: One of `supervised.xmc.losses.LOSSES`.
            groups: Their groups of labels, for the auxiliary branch.
            group_weight: How much the loss of the auxiliary branch counts.
            drawn: The labels that are looked at in the place of all.

        Returns:
            The loss, summed over labels, averaged over samples, without the auxiliary branch.
        """
        hidden = self.inputs(samples)
        x = hidden
        if isinstance(hidden, Tensor):
            x = hidden.detach().requires_grad_(hidden.requires_grad)
        total = torch.zeros(())
        if drawn is not None:
            total += self._through_drawn(x, labels, drawn, loss)
        for begin, block in self.blocks() if drawn is None else ():
            total += _through(block, x, labels, begin, loss, 1 / len(samples))
        if self.auxiliary is not None and groups is not None and group_weight > 0:
            _through(self.auxiliary, x, groups, 0, loss, group_weight / len(samples))
        if isinstance(hidden, Tensor) and isinstance(x, Tensor) and hidden.requires_grad:
            torch.autograd.backward(hidden, x.grad)
        return total / len(samples)

    def _through_drawn(
        self, x: Tensor | CompactInput, labels: Rows, drawn: Drawn, loss: Loss
    ) -> Tensor:
        """Return the sum of the corrected loss; its gradient over the samples goes on backward."""
        logits = scores(self.blocks(), x, drawn.labels)
        gradient = logits.detach().clone()
        places = labels.owners, drawn.places(labels.columns)
        if loss is softmax_:
            gradient[:, drawn.own :] += math.log(drawn.scale)
            value = loss(gradient, *places)
        else:
            own, others = gradient[:, : drawn.own], gradient[:, drawn.own :]
            nothing = places[0][:0]
            value = loss(own, *places) + drawn.scale * loss(others, nothing, nothing)
            others.mul_(drawn.scale)
        torch.autograd.backward(logits, gradient.div_(len(labels)))
        return value


def _compact(samples: Rows) -> Tensor | CompactInput:
    columns, places = torch.unique(samples.columns, return_inverse=True)
    if 2 * len(columns) > samples.width:
        return samples.dense()
    numbers = torch.zeros(len(samples), len(columns))
    numbers[samples.owners, places] = 1.0 if samples.values is None else samples.values
    return CompactInput(numbers, columns, samples.width)


def _through(
    layer: nn.Module, x: Tensor | CompactInput, labels: Rows, begin: int, loss: Loss, weight: float
) -> Tensor:
    """Return the sum of a block's loss; its gradient times the weight goes on backward."""
    logits: Tensor = layer(x)
    gradient = logits.detach()
    value = loss(gradient, *labels.within(begin, begin + logits.shape[1]))
    torch.autograd.backward(logits, gradient.mul_(weight))
    return value
