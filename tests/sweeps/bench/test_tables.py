"""Tables of the page on speed, from records of several runs."""

from __future__ import annotations

import json
from dataclasses import asdict

from sweeps.bench import tables
from sweeps.bench.learning import Times
from sweeps.bench.rl_records import Case, records
from sweeps.bench.timing import records as kernel_records
from sweeps.bench.timing import write_json


def test_ratios_and_fractions_of_two_runs_are_spans(tmp_path, capsys):
    files = []
    for run, median in enumerate((250.0, 400.0)):
        medians, work = {"dense": 2000.0, "condensed:4": median}, {"dense": 1e8, "condensed:4": 1e7}
        files.append(tmp_path / f"{run}.json")
        write_json(files[-1], kernel_records("layer", (10, 20), 256, 0.9, 1, medians, work, 200.0))
    assert tables.main([str(file) for file in files]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| layer, threads: 1 | sparsity | dense | condensed, g = 4 |",
        "|---|---|---|---|",
        "| 10 x 20, batch 256 | 0.9 | 2000 us, 25% | 5.0-8.0, 12-20% |",
    ]


def test_a_line_of_learning_is_a_contestant(tmp_path, capsys):
    times = {"dense": Times([0.004] * 2, [0.003]), "sbx": Times([0.002] * 2, [0.001])}
    times["compiled-4"] = Times([0.001, 0.003], [0.001])
    found = records(Case("sac", (8, 8), 0.5), "learn", times)
    file = tmp_path / "rl.json"
    file.write_text(json.dumps([asdict(record) for record in found]))
    assert tables.main([str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[4:] == [
        "| [8, 8] | dense | 0 | 4.00 | 4.00 | 1.00 | 1.00 |",
        "| [8, 8] | sbx dense | 0 | 2.00 | 2.00 | 2.00 | 2.00 |",
        "| [8, 8] | dstrl condensed, g = 4 | 0.5 | 2.00 | 2.00 | 2.00 | 2.00 |",
    ]


def test_times_without_a_rival_and_sizes(tmp_path):
    rows = [
        {"case": "layer", "in": 8, "out": 8, "batch": 2, "sparsity": 0.9, "threads": 2, "group": 1,
         "contestant": "condensed", "median_us": 5.0, "ratio_to_dense": None},
        {"case": "memory", "in": 8, "out": 8, "batch": 2, "sparsity": 0.9, "threads": 1, "group": 4,
         "contestant": "condensed", "median_us": None, "ratio_to_dense": 0.1, "bytes": 9},
    ]  # fmt: skip
    text = tables.tables([rows])
    assert "| 8 x 8, batch 2 | 0.9 | 5 us |" in text and "| 8 x 8, batch 2 | 0.9 | 0.1 |" in text
