"""Prediction: the best labels of each sample, a block of labels and some samples at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_core.checks import InputError, at_least
from supervised.data.rows import Rows
from supervised.xmc.model import OneVsAll


@torch.no_grad()
def best_labels(
    model: OneVsAll, samples: Rows, k: int, *, batch: int = 256
) -> tuple[Tensor, Tensor]:
    """Return the k labels of the highest scores for each sample, best first.

    Args:
        model: The model, which is put into evaluation mode.
        samples: Features of n samples.
        k: How many labels.
        batch: Samples whose scores of one block of labels are in memory together.

    Returns:
        Labels `(n, k) int64` and their scores `(n, k) float32`.

    Raises:
        InputError: If there are fewer labels.
    """
    at_least("k", k, 1)
    at_least("batch", batch, 1)
    if k > model.labels:
        raise InputError(f"k={k}: must be at most {model.labels}, the labels", field="k")
    model.eval()
    rows = torch.arange(len(samples))
    parts = [_best(model, samples.take(some), k) for some in torch.split(rows, batch)]
    empty = (torch.zeros(0, k, dtype=torch.int64), torch.zeros(0, k))
    labels, scores = zip(*parts, empty, strict=True)
    return torch.cat(labels), torch.cat(scores)


def _best(model: OneVsAll, samples: Rows, k: int) -> tuple[Tensor, Tensor]:
    x = model.inputs(samples)
    labels = torch.zeros(len(samples), 0, dtype=torch.int64)
    scores = torch.zeros(len(samples), 0)
    for begin, block in model.blocks():
        logits: Tensor = block(x)
        found, places = logits.topk(min(k, logits.shape[1]), 1)
        labels, scores = torch.cat([labels, places + begin], 1), torch.cat([scores, found], 1)
        scores, order = scores.topk(min(k, scores.shape[1]), 1)
        labels = labels.gather(1, order)
    return labels, scores
