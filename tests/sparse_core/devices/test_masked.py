"""Masked networks train on any device: all that the engine makes follows the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from tests.sparse_core.devices.masked_runs import METHOD_RUNS, OTHER_RUNS, Network
from tests.sparse_core.devices.programs import outcomes_of

PROGRAM = "tests.sparse_core.devices.masked_runs"
UPDATERS = ("srigl", "snfs", "gse", "topkast", "wsn", "granet")
"""Methods whose updaters have little in common."""


def test_networks_train_away_from_the_cpu() -> None:
    assert outcomes_of(PROGRAM, [*UPDATERS]) == dict.fromkeys(UPDATERS)


@pytest.mark.slow
def test_every_method_and_rule_trains_away_from_the_cpu() -> None:
    every = METHOD_RUNS | OTHER_RUNS
    assert outcomes_of(PROGRAM, [*every]) == dict.fromkeys(every)


@pytest.mark.parametrize("linear", [False, True])
def test_a_masked_network_runs_on_meta(linear: bool) -> None:
    with torch.device("meta"):
        net = Network(linear)
        x = torch.zeros(3, 5, 8) if linear else torch.zeros(3, 5, dtype=torch.int64)
    on_cpu = Network(linear)
    sparsify(on_cpu, SparseConfig(sparsity=0.5))
    net = on_cpu.to("meta")
    net(x).sum().backward()
    masked = [name for name, _ in net.named_buffers() if name.endswith("_mask")]
    assert masked
    for name in masked:
        weight: nn.Parameter = net.get_parameter(name.removesuffix("_mask"))
        assert weight.grad is not None and weight.grad.device.type == "meta"
        assert weight.grad.shape == weight.shape
