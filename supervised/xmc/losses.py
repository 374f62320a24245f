"""Losses over labels, the value and the gradient in one pass.

The gradient takes the place of the logits, and positives are entries of a sparse matrix: neither a
matrix of targets nor a second one for the gradient is made. A label that does not belong to a
sample costs

    bce            log(1 + exp(z))
    squared_hinge  max(0, 1 + z)^2

and one that does the same of -z. Labels are summed, samples averaged. In `softmax` labels compete:
one that belongs to a sample costs -log(exp(z) / sum of exp over all labels), so it needs the logits
of all labels together, or of a sample of them (`supervised.xmc.sampled`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes logits and the positives' rows and columns; returns the sum, leaves the gradient."""


def bce_(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Replace logits by the gradient of the sum of logistic losses, which is returned.

    Args:
        logits: `(n, labels)`.
        rows: `(positives,) int64`.
        columns: `(positives,) int64`.
    """
    total = F.softplus(logits).sum() - logits[rows, columns].sum()
    logits.sigmoid_()
    logits[rows, columns] -= 1
    return total


def squared_hinge_(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Replace logits by the gradient of the sum of squared hinge losses, which is returned.

    Args:
        logits: `(n, labels)`.
        rows: `(positives,) int64`.
        columns: `(positives,) int64`.
    """
    missing = (1 - logits[rows, columns]).relu_()
    logits.add_(1).relu_()
    logits[rows, columns] = -missing
    flat = logits.reshape(-1)
    total = torch.dot(flat, flat)
    logits.mul_(2)
    return total


def softmax_(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Replace logits by the gradient of the sum of cross entropies, which is returned.

    A sample with several labels is a sample for each of them (Menon et al. 2019, pick-all-labels).

    Args:
        logits: `(n, labels)`.
        rows: `(positives,) int64`.
        columns: `(positives,) int64`.
    """
    times = torch.bincount(rows, minlength=len(logits)).to(logits.dtype)
    normaliser = logits.logsumexp(1)
    total = torch.dot(times, normaliser) - logits[rows, columns].sum()
    logits.sub_(normaliser[:, None]).exp_().mul_(times[:, None])
    logits[rows, columns] -= 1
    return total
