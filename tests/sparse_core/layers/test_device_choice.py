"""`auto` on a GPU: condensed where a layer was measured that says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparse_core.kernels.gpu import tuning
from sparse_core.layers.device_choice import condensed_pays_there, pays

WON = (256, 512, 0.1, 4, 64, 1.2)  # rows, columns, density, group, batch, times dense
LOST = (128, 128, 0.2, 1, 16, 0.9)
KNOWN = {"torch.float32": [WON, LOST]}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ((256, 512, 0.1, 4, 64), True),
        ((1024, 512, 0.05, 8, 256), True),
        ((255, 512, 0.1, 4, 64), False),
        ((256, 511, 0.1, 4, 64), False),
        ((256, 512, 0.11, 4, 64), False),
        ((256, 512, 0.1, 2, 64), False),
        ((256, 512, 0.1, 4, 63), False),
    ],
)
def test_a_layer_that_won_speaks_for_larger_and_sparser_ones(
    layer: tuple[int, int, float, int, int], expected: bool
) -> None:
    assert pays(KNOWN, "torch.float32", *layer) is expected
    assert not pays(KNOWN, "torch.bfloat16", *layer)
    assert not pays({}, "torch.float32", *layer)


def test_crossovers_are_kept_by_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DST_GPU_TUNING", str(tmp_path / "gpu.json"))
    tuning._choices.cache_clear()
    assert tuning.crossovers("a GPU") == {}
    tuning.remember_crossovers("a GPU", torch.float32, [WON])
    tuning.remember_crossovers("a GPU", torch.bfloat16, [LOST])
    known = tuning.crossovers("a GPU")
    assert pays(known, "torch.float32", 256, 512, 0.1, 4, 64)
    assert not pays(known, "torch.bfloat16", 256, 512, 0.1, 4, 64)
    assert tuning.crossovers("another") == {}
    tuning._choices.cache_clear()


def test_nothing_else_than_cuda_was_measured() -> None:
    assert not condensed_pays_there(torch.empty(2, 2, device="meta"), 4096, 4096, 0.01, 32, 4096)
