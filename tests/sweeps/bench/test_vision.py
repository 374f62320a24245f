"""The benchmark of networks for images: which contestants it has, and that they train."""

from __future__ import annotations

from sweeps.bench import vision
from sweeps.bench.command import Setting


def test_every_contestant_is_a_record(monkeypatch):
    monkeypatch.setattr(vision, "BATCH", 4)
    monkeypatch.setattr(vision, "NETWORKS", {"small": ("resnet8", 16, None)})
    losses = []

    def turns(calls):
        losses.extend(float(calls[name]()) for name in ("dense", "masked"))
        return dict.fromkeys(calls, 10.0)

    case = vision._case("small")
    (found,) = case(Setting(1, quick=True, turns=turns, peak=100.0))
    names = [(record.contestant, record.group) for record in found]
    assert names == [("dense", 1), ("masked", 1), ("auto", 1), ("auto", 4)]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)
    assert {record.case for record in found} == {"small"} and found[0].gflops is None
