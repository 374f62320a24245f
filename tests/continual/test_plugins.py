"""The plugin in ordinary Avalanche programs."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from torch.nn import Linear, ReLU, Sequential
from torch.optim import SGD

from continual import MaskIsolation, TaskMasks
from continual.avalanche_compat import avalanche
from continual.benchmarks import as_avalanche, load_tasks
from sparse_core.config import SparseConfig
from tests.continual.tiny_tasks import (
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "continual_avalanche.py"


def test_five_lines(capsys):
    benchmark = as_avalanche(load_tasks("split-digits", tasks=5))
    net = Sequential(Linear(64, 100), ReLU(), Linear(100, 100), ReLU(), Linear(100, 2))
    Naive = avalanche.training.Naive

    model = TaskMasks(net, SparseConfig(method="srigl", sparsity=0.9))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    strategy = Naive(model=model, optimizer=optimizer, train_mb_size=32, plugins=[MaskIsolation()])
    for experience in benchmark.train_stream:
        strategy.train(experience)
    strategy.eval_mb_size = 100
    metrics = strategy.eval(benchmark.test_stream)

    accuracies = [value for name, value in metrics.items() if name.startswith("Top1_Acc_Exp")]
    assert len(accuracies) == 5 and min(accuracies) > 0.7
    assert "Task004" in capsys.readouterr().out


def test_the_example_script(capsys):
    main = runpy.run_path(str(EXAMPLE))["main"]
    metrics = main(epochs=1)
    assert metrics["StreamForgetting/eval_phase/test_stream"] == 0
    assert "weights used by five tasks" in capsys.readouterr().out


def test_a_model_without_tasks_is_refused():
    strategy = make_strategy(make_mlp())
    with pytest.raises(TypeError, match="MaskIsolation needs a TaskMasks model, not Sequential"):
        strategy.train(make_benchmark(make_tasks(1)).train_stream)


def test_a_forgotten_plugin_is_named():
    strategy = make_strategy(TaskMasks(make_mlp(), make_config()), plugins=[])
    with pytest.raises(RuntimeError, match=r"is MaskIsolation\(\) among the strategy's plugins"):
        strategy.train(make_benchmark(make_tasks(2)).train_stream, eval_streams=[])


def test_updates_follow_each_task_s_own_schedule():
    model = TaskMasks(make_mlp(), make_config(stop_at=0.5))
    strategy = make_strategy(model, epochs=4)  # 3 steps an epoch, 12 a task
    for number, experience in enumerate(make_benchmark(make_tasks()).train_stream, start=1):
        strategy.train(experience, eval_streams=[])
        assert model.engine.steps == 12 * number
        assert model.engine.updates == 2 * number  # after steps 2 and 4, before 6 = stop
