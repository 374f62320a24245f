"""The plugin in ordinary Avalanche programs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.nn import Linear, ReLU, Sequential
from torch.optim import SGD

from continual import MaskIsolation, TaskMasks
from continual.avalanche_compat import avalanche
from continual.runs.benchmarks import as_avalanche, load_tasks
from sparse_core.config import SparseConfig
from tests.continual.tiny_tasks import (
    logits,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

EXAMPLE = Path(__file__).parents[3] / "examples" / "continual_avalanche.py"


def test_five_lines(capsys):
    benchmark = as_avalanche(load_tasks("split-digits", tasks=5))
    net = Sequential(Linear(64, 100), ReLU(), Linear(100, 100), ReLU(), Linear(100, 2))
    Naive = avalanche.training.Naive

    model = TaskMasks(net, SparseConfig(method="srigl", sparsity=0.9, update_every=2))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    strategy = Naive(model=model, optimizer=optimizer, train_mb_size=32, plugins=[MaskIsolation()])
    for experience in benchmark.train_stream:
        strategy.train(experience)
    strategy.eval_mb_size = 100
    metrics = strategy.eval(benchmark.test_stream)

    accuracies = [value for name, value in metrics.items() if name.startswith("Top1_Acc_Exp")]
    assert len(accuracies) == 5 and min(accuracies) > 0.4
    assert "Task004" in capsys.readouterr().out


def test_the_example_script():
    command = [sys.executable, str(EXAMPLE), "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    forgetting = [line.split("=")[1] for line in said if "StreamForgetting/eval_phase" in line]
    assert len(forgetting) == 5 and float(forgetting[-1]) == 0
    assert said[-1].endswith("weights used by five tasks")


def test_a_model_without_tasks_is_refused():
    strategy = make_strategy(make_mlp())
    with pytest.raises(TypeError, match="MaskIsolation needs a TaskMasks model, not Sequential"):
        strategy.train(make_benchmark(make_tasks(1)).train_stream)


def test_a_forgotten_plugin_is_named():
    strategy = make_strategy(TaskMasks(make_mlp(), make_config()), plugins=[])
    with (
        pytest.raises(RuntimeError, match=r"is MaskIsolation\(\) among the strategy's plugins"),
        pytest.warns(UserWarning, match="whose engine is attached to no optimizer"),
    ):
        strategy.train(make_benchmark(make_tasks(2)).train_stream, eval_streams=[])


def test_a_forgotten_plugin_is_named_without_isolation_too():
    """Masks would silently never move."""
    model = TaskMasks(make_mlp(), make_config(), isolation="none")
    strategy = make_strategy(model, plugins=[])
    with (
        pytest.raises(RuntimeError, match=r"is MaskIsolation\(\) among the strategy's plugins"),
        pytest.warns(UserWarning, match="whose engine is attached to no optimizer"),
    ):
        strategy.train(make_benchmark(make_tasks(2)).train_stream, eval_streams=[])


@pytest.mark.parametrize(("method", "warned"), [("rigl", 2), ("static", 0), ("edge_popup", 0)])
def test_a_task_too_short_for_any_update_is_warned_of(method, warned):
    model = TaskMasks(make_mlp(), SparseConfig(method=method, sparsity=0.8))  # every 100 steps
    strategy = make_strategy(model, epochs=4)  # 12 steps a task
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        strategy.train(make_benchmark(make_tasks(2)).train_stream, eval_streams=[])
    about = [str(one.message) for one in said if "update_every=100: no update" in str(one.message)]
    assert len(about) == warned and all("the 12 optimizer steps" in line for line in about)
    assert (model.engine.updates == 0) == (method != "edge_popup")


def test_updates_follow_each_task_s_own_schedule():
    model = TaskMasks(make_mlp(), make_config(stop_at=0.5))
    strategy = make_strategy(model, epochs=4)  # 3 steps an epoch, 12 a task
    for number, experience in enumerate(make_benchmark(make_tasks()).train_stream, start=1):
        strategy.train(experience, eval_streams=[])
        assert model.engine.steps == 12 * number
        assert model.engine.updates == 2 * number  # after steps 2 and 4, before 6 = stop


@pytest.mark.filterwarnings("ignore::DeprecationWarning:avalanche")
def test_mir_replays_beside_frozen_tasks():
    # Labels are told apart, else MIR's buffer leaves out what is like the last batch: everything.
    tasks = [
        dataclasses.replace(task, train_y=task.train_y + 3 * label, test_y=task.test_y + 3 * label)
        for label, task in enumerate(make_tasks())
    ]
    model = TaskMasks(make_mlp(classes=9), make_config("rigl"))
    options = {"mem_size": 60, "subsample": 20, "batch_size_mem": 8}
    strategy = make_strategy(model, strategy=avalanche.training.MIR, epochs=2, **options)
    first = None
    for experience in make_benchmark(tasks).train_stream:
        strategy.train(experience, eval_streams=[])
        first = logits(model, 0, tasks[0]) if first is None else first
    replay = next(plugin for plugin in strategy.plugins if type(plugin).__name__ == "MIRPlugin")
    assert replay.replay_loader is not None
    assert torch.equal(logits(model, 0, tasks[0]), first)
    ended = [p for label in (0, 1, 2) for p in model.tasks[str(label)].parameters()]
    assert not any(p.requires_grad for p in ended)


@pytest.mark.parametrize("size", [16, 20])  # 48 samples: Avalanche marks no last one of 16
def test_an_online_stream_is_one_task_until_its_last_experience(size):
    tasks = make_tasks(2)
    model = TaskMasks(make_mlp(), make_config("rigl", update_every=2))
    strategy = make_strategy(model, epochs=1)
    split = avalanche.benchmarks.scenarios.split_online_stream
    stream = make_benchmark(tasks).train_stream
    seen = []
    for experience in split(stream, experience_size=size, access_task_boundaries=True):
        strategy.train(experience, eval_streams=[])
        seen.append(logits(model, 0, tasks[0]))
        assert (model.label is None) == (size == 20 and len(seen) in (3, 6))
    assert model.labels == [0, 1]
    assert not torch.equal(seen[1], seen[2])
    assert all(torch.equal(later, seen[2]) for later in seen[3:])
    assert model.engine.updates == {16: 2, 20: 4}[size]  # after steps 2 and 4 of 3, of 5
