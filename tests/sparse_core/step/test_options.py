"""The numbers of a step follow from the optimizer, in all versions of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sparse_core.step.options import rule_of


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_decay_is_decoupled_by_class_where_the_group_does_not_say(kind) -> None:
    """torch 2.6 does not."""
    optimizer = kind([nn.Parameter(torch.zeros(1))], lr=0.1, weight_decay=0.5)
    _, numbers = rule_of(optimizer, polyak=False)
    group = dict(optimizer.param_groups[0])
    said = numbers(group, 3.0, 1.0)
    group.pop("decoupled_weight_decay", None)
    np.testing.assert_array_equal(numbers(group, 3.0, 1.0), said)
