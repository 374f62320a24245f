"""The benchmark of updates: its numbers by hand, and a small run."""

from __future__ import annotations

import json

import pytest
import torch

from sweeps.bench import cl, updates


def test_a_record_by_hand() -> None:
    record = updates.Record.of("sac", 256, "rigl", 1, 4000.0, 10000.0)
    assert (record.step_ms, record.update_ms) == (4.0, 10.0)
    assert (record.steps, record.mean_ms) == (1.5, 4.06)
    assert "which costs 1.50 steps; mean 4.06 ms" in record.line()


@pytest.mark.slow
def test_every_network_method_and_group(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(updates, "WIDTHS", (24,))
    monkeypatch.setattr(cl, "WIDTHS", (16, 24, 24, 3))
    threads = torch.get_num_threads()
    assert updates.main(["--quick", "--json", str(tmp_path / "updates.json")]) == 0
    torch.set_num_threads(threads)
    records = json.loads((tmp_path / "updates.json").read_text())
    found = [(r["network"], r["method"], r["group"]) for r in records]
    assert found == [
        (network, *kind) for network in ("sac", "dstrl sac", "task") for kind in updates.KINDS
    ]
    assert all(r["update_ms"] > 0 and r["step_ms"] > 0 for r in records)
