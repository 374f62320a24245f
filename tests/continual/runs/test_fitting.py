"""Tasks that do not fit are refused without their data, by the words that refuse them with it."""

from __future__ import annotations

import pytest

from continual.runs.benchmarks import load_tasks
from continual.runs.build import make_model
from continual.runs.fitting import check
from continual.runs.spec import CLSpec
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig

STATIC = SparseConfig(method="static", sparsity=0.9)


@pytest.mark.parametrize(("benchmark", "tasks"), [("permuted-digits", 8), ("split-digits", 5)])
def test_what_is_said_is_what_a_run_says(benchmark: str, tasks: int) -> None:
    sparse = SparseConfig(method="static", sparsity=0.9 if tasks == 8 else 0.8)
    spec = CLSpec(benchmark=benchmark, tasks=tasks, hidden=(200, 200), sparse=sparse)
    data = load_tasks(benchmark, tasks, 0)
    with pytest.raises(InputError, match=f"tasks={tasks}: at sparsity") as ahead:
        check(spec)
    with pytest.raises(InputError) as inside:
        make_model(spec, max(data, key=lambda task: task.classes))
    assert str(ahead.value) == str(inside.value)


def test_what_fits_or_cannot_be_known_is_let_pass() -> None:
    check(CLSpec(tasks=7, hidden=(200, 200), sparse=STATIC))
    check(CLSpec(tasks=30, hidden=(200, 200), sparse=STATIC, isolation="none"))
    check(CLSpec(tasks=30, benchmark="permuted", dataset="digits.npz", sparse=STATIC))


def test_only_isolated_tasks_have_to_fit() -> None:
    assert CLSpec(sparse=STATIC).refused_by() == "continual.runs.fitting:check"
    assert CLSpec(sparse=STATIC, isolation="none").refused_by() == ""
