"""What Avalanche hardly uses is imported when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from continual.avalanche_compat import DEFERRED, _Later, avalanche

NAMES = [name for name in DEFERRED if "." not in name]


def test_a_metric_that_needs_one_of_them_imports_it() -> None:
    metric = avalanche.evaluation.metrics.TopkAccuracy(top_k=2)
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.2, 0.1, 0.7]])
    metric.update(scores, torch.tensor([1, 0, 1, 1]), 0)
    assert metric.result() == {0: 0.5}
    assert "torchmetrics" in sys.modules


def test_a_stand_in_gives_way_to_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    later = _Later("this_is_no_module", ("work",))
    monkeypatch.setitem(sys.modules, "this_is_no_module", later)
    assert not hasattr(later, "__path__")
    monkeypatch.setitem(DEFERRED, "colorsys", ("hls_to_rgb",))
    colours = _Later("colorsys", ("hls_to_rgb",))
    monkeypatch.setitem(sys.modules, "colorsys", colours)
    assert colours.hls_to_rgb(0.0, 0.5, 0.0) == (0.5, 0.5, 0.5)
    assert colours.ONE_THIRD == 1 / 3
    assert not isinstance(sys.modules["colorsys"], _Later)


@pytest.mark.slow
def test_avalanche_is_imported_without_them() -> None:
    code = f"import sys, continual.avalanche_compat; print({set(NAMES)} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
