"""The benchmark of convolutions: what it compares, and what it counts."""

from __future__ import annotations

import pytest
import torch

from sparse_core.networks.residual import resnet
from sweeps.bench import conv
from sweeps.bench.command import Setting
from tests.sparse_core.convolutions import few_patches

__all__ = ["few_patches"]


@pytest.mark.usefixtures("few_patches")
def test_layers_are_compared_with_the_faster_dense_one(monkeypatch):
    monkeypatch.setattr(conv, "LAYERS", ((8, 4, 16),))
    monkeypatch.setattr(conv, "GROUPS", (1,))

    def turns(calls):
        for call in calls.values():
            call()
        return {name: 10.0 + i for i, name in enumerate(calls)}  # microseconds

    (found,) = conv.layer(Setting(1, quick=True, turns=turns, peak=100.0))
    by_name = {record.contestant: record for record in found}
    assert list(by_name)[:3] == ["nchw", "channels_last", "masked"]
    assert by_name["dense"].median_us == by_name["nchw"].median_us == 10
    once = 2 * 3 * 16 * 16  # three products, 16 samples, 16 pixels
    assert by_name["dense"].gflops == pytest.approx(once * 576 / 10 / 1e3)
    condensed = by_name["condensed"]
    assert condensed.gflops == pytest.approx(once * 58 / condensed.median_us / 1e3)
    assert condensed.ratio_to_dense == pytest.approx(10 / condensed.median_us)
    assert condensed.of_peak == pytest.approx(condensed.gflops / 100)


def test_the_residual_networks():
    """Published: 0.27 million weights in ResNet-20 with 16 channels (He et al. 2016, table 6)."""
    net = resnet(16, 3, 3)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(0.27e6, rel=0.02)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == 19 + 2
