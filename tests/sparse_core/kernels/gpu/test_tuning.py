"""The sizes of blocks: powers of two, chosen once for each device and kept in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sparse_core.kernels.format import GROUPS
from sparse_core.kernels.gpu import tuning


@pytest.fixture(autouse=True)
def _own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DST_GPU_TUNING", str(tmp_path / "deep" / "gpu.json"))
    tuning._choices.cache_clear()


@pytest.mark.parametrize("kernel", [*tuning.CANDIDATES])
@pytest.mark.parametrize("batch", [1, 3, 256])
def test_sizes_are_powers_of_two(kernel: str, batch: int) -> None:
    for group in GROUPS:
        sizes = tuning.sizes_for(kernel, group, torch.float32, batch, "none")
        assert all(size > 0 and size & (size - 1) == 0 for size in sizes.values())
        assert sizes["SAMPLES"] >= (16 if kernel.startswith("tile") else 1)


def test_the_fastest_is_remembered_by_device_and_shape() -> None:
    kernel, times = "products", iter([9.0, 5.0, 2.0, 7.0, 8.0] * 6)
    best = tuning.tune(kernel, 1, torch.float32, 200, "a GPU", lambda: next(times))
    assert best == tuning.CANDIDATES[kernel][2]
    found = tuning.sizes_for(kernel, 1, torch.float32, 256, "a GPU")
    assert found == best
    for group, batch, device in ((2, 256, "a GPU"), (1, 512, "a GPU"), (1, 256, "another")):
        first = tuning.CANDIDATES[kernel][0]["GROUPS_AT_ONCE"]
        sizes = tuning.sizes_for(kernel, group, torch.float32, batch, device)
        assert sizes["GROUPS_AT_ONCE"] == first // group
    kept = json.loads(tuning.cache_file().read_text())
    assert kept == {"a GPU": {"products/1/float32/256": best}}


def test_a_broken_file_is_as_none() -> None:
    tuning.cache_file().parent.mkdir(parents=True)
    tuning.cache_file().write_text("{")
    sizes = tuning.sizes_for("products", 1, torch.float32, 256, "a GPU")
    assert sizes == tuning.CANDIDATES["products"][0]
