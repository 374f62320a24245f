"""The benchmark of attention: what it compares, and what it counts."""

from __future__ import annotations

import pytest

from sweeps.bench import attention
from sweeps.bench.command import Setting


@pytest.mark.parametrize(("case", "weights"), [("attention", 4), ("block", 12)])
def test_useful_operations_are_those_of_active_weights(case, weights, monkeypatch):
    monkeypatch.setattr(attention, "SHAPES", ((8, 2, 3, 5),))
    monkeypatch.setattr(attention, "SPARSITIES", (0.75,))
    monkeypatch.setattr(attention, "GROUPS", (1, 2))

    def turns(calls):
        for call in calls.values():
            call()
        return {name: 10.0 + i for i, name in enumerate(calls)}  # microseconds

    (found,) = attention.CASES[case](Setting(1, quick=True, turns=turns, peak=100.0))
    assert [(record.contestant, record.group) for record in found] == [
        ("dense", 1),
        ("masked", 1),
        ("condensed", 1),
        ("condensed", 2),
    ]
    once = 2 * 3 * 3 * 5  # three products, tokens, samples
    for record, share in zip(found, (1, 0.25, 0.25, 0.25), strict=True):
        assert record.batch == 15
        useful = once * weights * 64 * share
        assert record.gflops == pytest.approx(useful / record.median_us / 1e3)
