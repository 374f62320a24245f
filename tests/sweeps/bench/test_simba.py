"""The critic of SimBa: its layers, and its contestants."""

from __future__ import annotations

import torch
from torch import nn

from sweeps.bench import simba


def test_a_block_adds_what_it_computes():
    torch.manual_seed(0)
    net = simba.critic(4, 2)
    shapes = [tuple(m.weight.shape) for m in net.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(4, 23), (16, 4), (4, 16), (16, 4), (4, 16), (1, 4)]
    block, x = net[1], torch.randn(3, 4)
    norm, wide, _, narrow = block.inner
    expected = x + narrow(wide(norm(x)).relu())
    torch.testing.assert_close(block(x), expected)


def test_every_setting_is_a_record(monkeypatch):
    monkeypatch.setattr(simba, "BATCH", 4)
    monkeypatch.setattr(
        simba, "in_turns", lambda calls, **_: {n: c() or 2e3 for n, c in calls.items()}
    )
    found = simba.measure((16, 2), 1, "wall")
    assert [(r.backend, r.sparsity, r.group) for r in found] == [("dense", 0.0, 1), *simba.SETTINGS]
    assert all(r.median_ms == 2.0 and r.ratio_to_dense == 1.0 for r in found)
