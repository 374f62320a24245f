"""Masked networks train on any device: all that the engine makes follows the weights."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from tests.sparse_core.devices import away
from tests.sparse_core.devices.masked_runs import METHOD_RUNS, OTHER_RUNS, Network


def _outcomes(names: list[str]) -> dict[str, str | None]:
    if not away.possible():
        pytest.skip("this version of torch has no devices written in Python")
    program = [sys.executable, "-m", "tests.sparse_core.devices.masked_runs", *names]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


UPDATERS = ("set", "rigl", "srigl", "snfs", "gse", "topkast", "wsn", "granet")
"""Methods whose updaters have little in common."""


def test_networks_train_away_from_the_cpu() -> None:
    assert _outcomes([*UPDATERS]) == dict.fromkeys(UPDATERS)


@pytest.mark.slow
def test_every_method_and_rule_trains_away_from_the_cpu() -> None:
    every = METHOD_RUNS | OTHER_RUNS
    assert _outcomes([*every]) == dict.fromkeys(every)


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
