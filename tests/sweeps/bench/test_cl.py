"""The benchmark of continual learning, small: what it measures and what it writes."""

from __future__ import annotations

import json

import pytest
import torch

from sweeps.bench import cl, cl_compiled


@pytest.mark.slow
def test_records_of_every_contestant(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cl, "WIDTHS", (16, 24, 24, 3))
    monkeypatch.setattr(cl, "BATCH", 16)
    monkeypatch.setattr(cl_compiled, "NETWORKS", (((16, 24, 24, 3), 16),))
    threads = torch.get_num_threads()
    assert cl.main(["--quick", "--json", str(tmp_path / "cl.json")]) == 0
    torch.set_num_threads(threads)
    records = json.loads((tmp_path / "cl.json").read_text())
    found = {(r["case"], r["contestant"], r["group"]) for r in records}
    contestants = [("dense", 1), ("masked", 1), ("condensed", 1), ("condensed", 4)]
    expected = {(case, "dense fused", 1) for case in ("train", "update")}
    expected |= {(case, *c) for case in ("eval", "train", "update") for c in contestants}
    contestants = [
        ("dense", 1),
        *((name, g) for name in ("condensed", "uncompiled") for g in (1, 4)),
    ]
    assert found == expected | {(case, *c) for case in ("bare", "naive") for c in contestants}
    assert all(r["median_us"] > 0 for r in records)
    printed = capsys.readouterr().out
    assert "training iteration:" in printed and "evaluation of an earlier task:" in printed
