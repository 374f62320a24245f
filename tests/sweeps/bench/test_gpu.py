"""The benchmark on a GPU: its bars, what it says without one, and that contestants agree."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch

from sweeps import cli
from sweeps.bench import gpu
from sweeps.bench.gpu_bars import BARS, verdicts
from sweeps.bench.gpu_layers import GROUPS, Subject, forward_calls, training_calls


def test_bars_are_met_missed_or_not_measured() -> None:
    lines = verdicts({"forward": 1.7, "csr": 12.99})
    assert [line.rpartition(": ")[2] for line in lines] == [
        "1.70", "12.99", "not measured", "not measured",
    ]  # fmt: skip
    assert "at least 1.7: met: 1.70" in lines[0] and "at least 13: missed: 12.99" in lines[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.json"
    assert cli.main(["bench", "gpu", "--quick", "--json", str(file)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1:] == verdicts({}) and all(line.endswith("not measured") for line in told[1:])
    assert len(told) == 1 + len(BARS)
    assert json.loads(file.read_text()) == []


def test_contestants_compute_what_they_are_called() -> None:
    subject = Subject(64, 32, 3, 0.75, torch.device("cpu"))
    calls = forward_calls(subject)
    assert {f"condensed {group}" for group in GROUPS} < set(calls)
    assert {"dense", "dense tf32", "dense bf16", "csr"} < set(calls)
    for name, call in calls.items():
        assert call().shape == (3, 32), name
    for group in GROUPS:
        layer = subject.condensed(group)
        active = layer.mask()
        assert (active.sum(1) == 16).all()
        assert torch.equal(active, active[::group].repeat_interleave(group, 0))
        expected = subject.x @ layer.dense_weight().T + layer.bias
        torch.testing.assert_close(layer(subject.x), expected)
    for name, training in training_calls(subject).items():
        assert training().shape == (3, 64), name


def test_a_measurement_fills_bars_records_and_crossovers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[object] = []

    def in_turns(calls: Mapping[str, Callable[[], object]], *_: object, **__: object) -> object:
        found = {}
        for n, (name, call) in enumerate(calls.items()):
            call()
            found[name] = 12.0 if name == "dense" else 3.0 + n
        return found

    monkeypatch.setattr("sweeps.bench.gpu_clock.in_turns", in_turns)
    monkeypatch.setattr("sweeps.bench.gpu_layers.tune", lambda subject: None)
    monkeypatch.setattr(
        "sweeps.bench.gpu_steps.step_ratios", lambda *_: {"sac": {"condensed 1": 1.6}}
    )
    monkeypatch.setattr(gpu, "SHAPES", ((64, 32),))
    monkeypatch.setattr(gpu, "BAR", (64, 32, 256, 0.9))
    monkeypatch.setattr(gpu, "_remember", lambda device, crossovers: kept.extend(crossovers))
    measured: dict[str, float] = {}
    tables = list(gpu.measure(torch.device("cpu"), True, 1, measured))
    assert [found[0].case for found in tables] == ["forward", "training", "sac"]
    # condensed 1 is the fifth forward pass, and the second training step: 7 and 4 microseconds.
    assert measured == {
        "forward": 12 / 7, "csr": 6 / 7, "backward": 2 * 7 / (4 - 7), "sac": 1.6,
    }  # fmt: skip
    assert kept[0] == (32, 64, pytest.approx(0.1), 1, 256, 3.0) and len(kept) == len(GROUPS)


@pytest.fixture(autouse=True)
def _precision_stays() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_wrong_options_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    options: list[tuple[list[str], str]] = [
        (["--rounds", "0"], "argument --rounds: '0': must be an integer of at least 1"),
        (["--json", "no/where.json"], "must be a file in a folder that exists"),
    ]
    for words, message in options:
        with pytest.raises(SystemExit, match="2"):
            cli.main(["bench", "gpu", *words])
        assert message in capsys.readouterr().err
