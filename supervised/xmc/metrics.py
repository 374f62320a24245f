"""Precision, nDCG and propensity-scored precision at k, as the repository defines them.

Each takes the labels that were predicted, best first, and the labels that are right. Samples
without labels count as zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparse_core.checks import InputError, at_least
from supervised.data.ranking import gains, hits
from supervised.data.rows import Rows


def precision(best: Tensor, labels: Rows, k: int) -> float:
    """Return P@k: the fraction of the first k predictions that is right, averaged over samples.

    Args:
        best: Predicted labels, best first, `(n, k or more) int64`.
        labels: The right ones.
        k: How many predictions count.

    Raises:
        InputError: If there are fewer predictions.
    """
    _check(best, labels, k)
    return float(hits(best[:, :k], labels).double().mean())


def ndcg(best: Tensor, labels: Rows, k: int) -> float:
    """Return nDCG@k: right predictions count 1 / log2(rank + 1), over the best that is possible.

    Args:
        best: Predicted labels, best first, `(n, k or more) int64`.
        labels: The right ones.
        k: How many predictions count.

    Raises:
        InputError: If there are fewer predictions.
    """
    _check(best, labels, k)
    return float(gains(best, labels, k).mean())


def propensities(counts: Tensor, samples: int, a: float = 0.55, b: float = 1.5) -> Tensor:
    """Return how probable it is that a label that belongs to a sample was noticed.

    1 / (1 + C (count + b)^-a) with C = (log samples - 1) (b + 1)^a (Jain et al., 2016).

    Args:
        counts: How many training samples have each label, `(labels,) int64`.
        samples: How many training samples there are.
        a: 0.55; 0.5 for Wikipedia, 0.6 for Amazon.
        b: 1.5; 0.4 for Wikipedia, 2.6 for Amazon.

    Raises:
        InputError: If there are fewer than 3 samples, for which it is not defined.
    """
    at_least("samples", samples, 3)
    rarity = (math.log(samples) - 1) * (b + 1) ** a
    return torch.reciprocal(1 + rarity * torch.pow(counts.double() + b, -a))


def propensity_precision(best: Tensor, labels: Rows, k: int, propensity: Tensor) -> float:
    """Return PSP@k: right predictions count 1 / propensity, over the best that is possible.

    Both are summed over all samples before they are divided, as in the repository.

    Args:
        best: Predicted labels, best first, `(n, k or more) int64`.
        labels: The right ones.
        k: How many predictions count.
        propensity: Of each label, `(labels,) float64`.

    Raises:
        InputError: If there are fewer predictions.
    """
    _check(best, labels, k)
    first = best[:, :k]
    gained = (hits(first, labels) / propensity[first]).sum()
    worth = 1 / propensity[labels.columns]
    order = worth.argsort(descending=True, stable=True)
    order = order[labels.owners[order].argsort(stable=True)]
    ranks = torch.arange(len(order)) - labels.begins[labels.owners]
    possible = worth[order][ranks < k].sum()
    return float(gained / possible) if possible > 0 else 0.0


def _check(best: Tensor, labels: Rows, k: int) -> None:
    at_least("k", k, 1)
    if k > best.shape[1]:
        raise InputError(f"k={k}: must be at most {best.shape[1]}, the predictions", field="k")
    if len(best) != len(labels):
        raise InputError(
            f"best: has {len(best)} rows, there are {len(labels)} samples", field="best"
        )
