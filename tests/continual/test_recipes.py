"""The recipe "a new benchmark of continual learning", followed: a function and a line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from continual.listing import described
from continual.runs import catalogue, data, datasets
from continual.runs.benchmarks import load_tasks
from continual.runs.spec import CLSpec
from continual.runs.train import run
from sparse_core.config import SparseConfig
from sweeps.cli import main
from tests.continual.runs.lab import lab  # noqa: F401
from tests.recipes import blocks_of

STATIC = SparseConfig(method="static", sparsity=0.8)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function in `data.py` and the line in `DATASETS`, from which benchmarks are named."""
    function, line = blocks_of("A new benchmark of continual learning")
    made: dict[str, Any] = {}
    exec(function, dict(vars(data)), made)
    entry = eval(f"{{{line}}}", vars(datasets))["corners"]
    monkeypatch.setattr(data, "corners", made["corners"], raising=False)
    monkeypatch.setitem(datasets.DATASETS, "corners", entry)  # type: ignore[arg-type]
    for table in (datasets.DATASETS, catalogue.BENCHMARKS):
        assert isinstance(table, dict)
    named = catalogue.benchmarks(catalogue.SCENARIOS, datasets.DATASETS)
    for name in set(named) - set(catalogue.BENCHMARKS):
        monkeypatch.setitem(catalogue.BENCHMARKS, name, named[name])  # type: ignore[arg-type]


@pytest.mark.usefixtures("added")
def test_a_data_set_of_the_package_is_a_function_and_a_line(tmp_path):
    for benchmark, tasks in {
        "split-corners": 2,
        "permuted-corners": 3,
        "rotated-corners": 3,
    }.items():
        spec = CLSpec(benchmark=benchmark, tasks=tasks, epochs=1, hidden=(12,), sparse=STATIC)
        spec.check_data()
        assert spec.side == 4
        result = run(spec, tmp_path, lambda done, numbers: None)
        assert len(result["accuracy_matrix"]) == tasks
    summaries = {entry.name: entry.summary for entry in described("benchmarks")}
    assert summaries["split-corners"] == "images bright in a corner: each task has its own classes"
    with pytest.raises(ValueError, match="tasks=3: must be one of 1, 2"):
        CLSpec(benchmark="split-corners", tasks=3)


def test_from_outside_it_is_a_file_and_no_line(lab, capsys):  # noqa: F811
    words = "--benchmark cllab:tasks --tasks 2 --epochs 1 --hidden 12 --sparse.method static"
    assert main(["train", "cl", *words.split(), "--out", "run"]) == 0
    assert "final average accuracy, tasks known (%)" in capsys.readouterr().out
    result = json.loads((lab / "run" / "result.json").read_text())
    assert len(result["accuracy_matrix"]) == 2
    assert [len(task.train_y) for task in load_tasks("cllab:tasks", 2)] == [60, 60]
