"""`dst bench`: what it writes, and what it says of wrong input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.bench import command
from sweeps.bench.timing import Record
from sweeps.cli import main


def test_records_of_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "records.json"
    assert main(["bench", "layers", "--quick", "--cases", "memory", "--json", str(file)]) == 0
    records = json.loads(file.read_text())
    assert [r["contestant"] for r in records] == [
        "dense", "half_width", "masked", "condensed", "condensed",
    ]  # fmt: skip
    assert [r["group"] for r in records] == [1, 1, 1, 1, 4]
    for record in records:
        assert list(record) == [
            "case", "in", "out", "batch", "sparsity", "threads", "group", "contestant",
            "median_us", "ratio_to_dense", "bytes",
        ]  # fmt: skip
    dense, *_, condensed, _ = records
    # Weights, gradients and two moments of 1024 x 1024 weights and 1024 biases, two step counters.
    assert dense["bytes"] == 4 * 4 * (1024 * 1024 + 1024) + 2 * 4
    assert condensed["ratio_to_dense"] == condensed["bytes"] / dense["bytes"] <= 0.2
    assert "condensed g=4" in capsys.readouterr().out


def test_records_of_a_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "records.json"
    words = ["bench", "kernels", "--quick", "--cases", "gemv", "--rounds", "1"]
    assert main([*words, "--json", str(file)]) == 0
    records = {(r["contestant"], r["group"]): r for r in json.loads(file.read_text())}
    assert {"dense", "half_width", "torch_csr", "scipy_csr", "condensed"} <= {c for c, _ in records}
    dense = records["dense", 1]["median_us"]
    assert dense > 0 and records["dense", 1]["ratio_to_dense"] == 1
    for record in records.values():
        assert record["case"] == "gemv" and (record["in"], record["out"]) == (3072, 768)
        assert record["ratio_to_dense"] == pytest.approx(dense / record["median_us"])
    groups = records["condensed", 4]
    active = 768 // 4 * 307 * 4  # a tenth of 3072 inputs, rounded, for each neuron
    assert groups["gflops"] == pytest.approx(2 * active / groups["median_us"] / 1000)
    assert 0 < groups["of_peak"] < groups["gflops"]
    head = json.loads(capsys.readouterr().out.partition("\n}")[0] + "}")
    assert groups["of_peak"] == pytest.approx(
        groups["gflops"] / float(head["peak of a core, GFLOP/s"]), rel=0.01
    )
    assert {"processor", "vector bits", "blas", "threads"} < set(head)


@pytest.mark.parametrize("name", ["kernels", "layers"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "0"], "argument --threads: '0': must be an integer of at least 1"),
        (["--rounds", "x"], "argument --rounds: 'x': must be an integer of at least 1"),
        (["--json", "/nowhere/x.json"], "'/nowhere/x.json': must be a file in a folder that"),
        (["--cases", "all"], "argument --cases: invalid choice: 'all'"),
        (["--threads", "2", "--clock", "cpu"], "--clock cpu measures one thread only"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_wrong_input_is_one_line(
    name: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", name, *words])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == ""
    assert err.count("\n") == 1 and message in err and f"dst bench {name} --help" in err


def test_an_unknown_benchmark_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "everything"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "'everything'" in err and "kernels" in err


class Limits:
    """Limits of no machine."""

    all_cores = 1.0

    def facts(self) -> dict[str, str]:
        return {}


def test_what_takes_minutes_is_measured_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.bench.peak.limits", lambda threads: Limits())
    monkeypatch.setattr(command, "set_threads", lambda threads: None)
    seen: list[str] = []

    def case(name: str) -> command.Case:
        def measured(setting: command.Setting) -> Iterator[list[Record]]:
            seen.append(name)
            yield from ()

        return measured

    cases = {name: case(name) for name in ("short", "minutes")}
    for arguments in ([], ["--cases", "minutes"]):
        command.run("dst bench x", None, cases, arguments, long=("minutes",))
    assert seen == ["short", "minutes"]
