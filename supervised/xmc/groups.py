"""Groups of labels, for an auxiliary branch that gives the intermediate layer gradients early.

Labels that occur with the same features are near each other: a label's place is the mean of its
samples, seen through a random projection, and spherical k-means gathers places.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_core.checks import at_least
from sparse_core.streams import stream
from supervised.data.rows import Rows
from supervised.data.text import Samples

DIRECTIONS = 64
"""Dimensions of the projection."""

ROUNDS = 20
"""Rounds of k-means at most."""


def label_groups(samples: Samples, groups: int, seed: int) -> Tensor:
    """Return the group of each label, `(labels,) int64`.

    Args:
        samples: For training.
        groups: How many; a group may end without labels.
        seed: Seeds the projection and the first centres.
    """
    at_least("groups", groups, 1)
    features, labels = samples.features, samples.labels
    signs = torch.randn(features.width, DIRECTIONS, generator=stream(seed, "groups", "projection"))
    seen = F.embedding_bag(
        features.columns,
        signs,
        features.begins,
        mode="sum",
        include_last_offset=True,
        per_sample_weights=features.values,
    )
    places = torch.zeros(labels.width, DIRECTIONS)
    places.index_add_(0, labels.columns, seen[labels.owners])
    places = F.normalize(places, dim=1)
    first = torch.randperm(labels.width, generator=stream(seed, "groups", "centres"))
    centres = places[first[:groups]]
    found = (places @ centres.T).argmax(1)
    for _ in range(ROUNDS):
        centres = F.normalize(centres.new_zeros(centres.shape).index_add_(0, found, places), dim=1)
        before, found = found, (places @ centres.T).argmax(1)
        if torch.equal(before, found):
            break
    return found


def grouped(labels: Rows, group_of: Tensor, groups: int) -> Rows:
    """Return the groups of each sample's labels, each once, as `label_groups` tells them."""
    keys = torch.unique(labels.owners * groups + group_of[labels.columns])
    lengths = torch.bincount(keys // groups, minlength=len(labels))
    begins = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return Rows(begins, keys % groups, None, groups)
