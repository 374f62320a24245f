"""`sweeps.bench.rl`: what it measures and writes."""

from __future__ import annotations

import json

import pytest

from sweeps.bench import rl


def test_every_contestant_is_a_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rl, "CASES", (((8, 8), 0.5),))
    monkeypatch.setattr(rl, "BATCH", 4)
    monkeypatch.setattr(
        rl, "in_turns", lambda calls, **_: {n: c() or 2000.0 for n, c in calls.items()}
    )
    assert rl.main(["--quick", "--json", str(tmp_path / "out.json")]) == 0
    records = json.loads((tmp_path / "out.json").read_text())
    assert records[0] == {
        "algo": "sac",
        "net_arch": [8, 8],
        "sparsity": 0.0,
        "method": "dense",
        "group": 1,
        "backend": "dense",
        "median_ms": 2.0,
        "ratio_to_dense": 1.0,
    }
    found = [(r["backend"], r["group"], r["sparsity"], r["method"]) for r in records[1:]]
    assert found == [(b, g, 0.5, "srigl") for b, g in rl.SETTINGS]
    assert "sac        8x8   50%  condensed group 4:     2.00 ms  x1.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds: '0': must be an integer of at least 1"),
        (
            ["--json", "/no/such/x.json"],
            "'/no/such/x.json': must be a file in a folder",
        ),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_timed(arguments, message, capsys):
    with pytest.raises(SystemExit):
        rl.main(arguments)
    assert message in capsys.readouterr().err
