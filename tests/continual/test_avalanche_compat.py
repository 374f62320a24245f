"""What Avalanche hardly uses is imported when it is used, and it needs no home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from continual.avalanche_compat import DEFERRED, _Later, _settings, avalanche

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


def test_settings_go_elsewhere_where_the_home_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    utils = avalanche.benchmarks.datasets.dataset_utils
    monkeypatch.setattr(utils, "AVALANCHE_CONFIG", {})
    monkeypatch.setenv("HOME", str(tmp_path))
    with _settings():
        assert os.environ["HOME"] == str(tmp_path)
    assert not utils.AVALANCHE_CONFIG
    (tmp_path / "file").write_text("")
    home = str(tmp_path / "file" / "home")
    monkeypatch.setenv("HOME", home)
    with _settings():
        within = os.environ["HOME"]
        assert Path(within).is_dir() and within != home
    assert os.environ["HOME"] == home and not Path(within).exists()
    assert utils.AVALANCHE_CONFIG == {"dataset_location": f"{home}/.avalanche/data"}


@pytest.mark.slow
def test_avalanche_is_imported_without_them() -> None:
    code = f"import sys, continual.avalanche_compat; print({set(NAMES)} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
