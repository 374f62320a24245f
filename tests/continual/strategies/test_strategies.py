"""`TaskMasks` under Avalanche's strategies: isolated tasks stay as they are, to the bit."""

from __future__ import annotations

import importlib

import pytest
import torch

from continual import MaskIsolation, TaskMasks
from continual.avalanche_compat import avalanche
from tests.continual.tasks.test_isolation import check_isolation
from tests.continual.tiny_tasks import (
    logits,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

STRATEGIES = {
    "Naive": {},
    "Replay": {"mem_size": 20},
    "EWC": {"ewc_lambda": 1.0},
    "SynapticIntelligence": {"si_lambda": 1.0},
    "MAS": {},
    "LwF": {"alpha": 1.0, "temperature": 2.0},
    "AGEM": {"patterns_per_exp": 16, "sample_size": 8},
    "Cumulative": {},
    "ER_ACE": {"mem_size": 20, "batch_size_mem": 8},
    "MIR": {"mem_size": 20, "subsample": 20, "batch_size_mem": 8},
    "DER": {"mem_size": 20, "batch_size_mem": 8},
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:avalanche")


def strategy_class(name):
    if name == "LaMAML":  # the one that needs no other package
        return importlib.import_module("avalanche.training.supervised.lamaml_v2").LaMAML
    return getattr(avalanche.training, name)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_isolated_tasks_answer_as_they_did_to_the_bit(name, optimizer):
    model = TaskMasks(make_mlp(), make_config("srigl"))
    options = {"strategy": strategy_class(name), "epochs": 2}
    check_isolation(model, make_tasks(), optimizer, **options, **STRATEGIES[name])
    assert model.engine.updates >= 3


@pytest.mark.parametrize("name", STRATEGIES)
def test_without_isolation_they_train_one_sparse_network(name):
    tasks = make_tasks()
    model = TaskMasks(make_mlp(), make_config("rigl"), isolation="none")
    strategy = make_strategy(model, strategy=strategy_class(name), epochs=2, **STRATEGIES[name])
    first = None
    for experience in make_benchmark(tasks).train_stream:
        strategy.train(experience, eval_streams=[])
        first = logits(model, 0, tasks[0]) if first is None else first
    assert not torch.equal(logits(model, 0, tasks[0]), first)
    assert all(tensor.count() == tensor.budget for tensor in model.engine.tensors)


REFUSED = {
    "GDumb": ({"mem_size": 140}, "GDumbPlugin cannot go with MaskIsolation: it trains a new"),
    "JointTraining": ({}, "JointTraining cannot go with MaskIsolation: it trains all tasks at"),
    "CWRStar": ({"cwr_layer_name": None}, "CWRStarPlugin cannot go .*: it writes into the head of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_strategies_that_change_finished_tasks_need_no_isolation(name):
    options, message = REFUSED[name]
    strategy = make_strategy(
        TaskMasks(make_mlp(), make_config()), strategy=strategy_class(name), **options
    )
    with pytest.raises(ValueError, match=message):
        strategy.train(make_benchmark(make_tasks()).train_stream, eval_streams=[])


@pytest.mark.parametrize("name", ["GDumb", "JointTraining"])
def test_without_isolation_they_go(name):
    tasks = make_tasks()
    model = TaskMasks(make_mlp(), make_config(), isolation="none")
    strategy = make_strategy(model, strategy=strategy_class(name), epochs=8, **REFUSED[name][0])
    strategy.train(make_benchmark(tasks).train_stream, eval_streams=[])
    hits = [(logits(strategy.model, t, tasks[t]).argmax(1) == tasks[t].test_y) for t in range(3)]
    assert float(torch.cat(hits).float().mean()) > 0.45  # chance is a third
    assert all(tensor.count() == tensor.budget for tensor in strategy.model.engine.tensors)


NEVER = {
    "BiC": {"mem_size": 20},
    "CoPE": {"mem_size": 20, "n_classes": 3, "p_size": 3},
    "FromScratchTraining": {},
    "LFL": {"lambda_e": 0.1},
    "LaMAML": {},
    "MER": {"mem_size": 20},
}


@pytest.mark.filterwarnings("ignore:Avalanche is transitioning")  # LaMAML's own constructor
@pytest.mark.parametrize("isolation", ["hard", "none"])
@pytest.mark.parametrize("name", NEVER)
def test_what_cannot_train_tasks_is_refused_by_name(name, isolation):
    strategy = make_strategy(
        TaskMasks(make_mlp(), make_config(), isolation=isolation),
        strategy=strategy_class(name),
        **NEVER[name],
    )
    with pytest.raises(ValueError, match=rf"{name}(Plugin)? cannot go with MaskIsolation: it "):
        strategy.train(make_benchmark(make_tasks()).train_stream, eval_streams=[])


PLUGINS = {
    "RWalkPlugin": {},
    "FeatureDistillationPlugin": {},
    "RARPlugin": {"batch_size_mem": 8, "mem_size": 20},
}


@pytest.mark.parametrize("name", PLUGINS)
def test_plugins_that_cannot_are_refused_by_name(name):
    other = getattr(avalanche.training.plugins, name)(**PLUGINS[name])
    model = TaskMasks(make_mlp(), make_config())
    strategy = make_strategy(model, plugins=[MaskIsolation(), other])
    with pytest.raises(ValueError, match=rf"{name} cannot go with MaskIsolation: it "):
        strategy.train(make_benchmark(make_tasks()).train_stream, eval_streams=[])
    assert model.labels == []


def test_strategies_with_networks_of_their_own_are_refused_by_name():
    model = TaskMasks(make_mlp(), make_config())
    strategy = make_strategy(
        model,
        strategy=lambda model, criterion, **options: avalanche.training.ICaRL(
            feature_extractor=model.model[:-1],
            classifier=model.model[-1],
            memory_size=20,
            buffer_transform=None,
            fixed_memory=True,
            **options,
        ),
    )
    with pytest.raises(ValueError, match="ICaRL cannot go with MaskIsolation: it brings a network"):
        strategy.train(make_benchmark(make_tasks()).train_stream, eval_streams=[])


ONE_TASK = {
    "CWRStar": ({"cwr_layer_name": None}, "CWRStarPlugin .*: it gathers the classes"),
    "GSS_greedy": ({"mem_size": 80, "input_size": [12]}, "GSS_greedyPlugin .*: it replays samples"),
    "EWC": ({"ewc_lambda": 1.0, "mode": "online", "decay_factor": 0.9}, "EWCPlugin.*: it pairs"),
}


@pytest.mark.parametrize("name", ONE_TASK)
def test_what_takes_all_data_for_one_task_is_refused_before_the_second(name):
    """They would go on, with samples under wrong labels and classes of other tasks in a head."""
    options, message = ONE_TASK[name]
    model = TaskMasks(make_mlp(), make_config(), isolation="none")
    strategy = make_strategy(model, strategy=strategy_class(name), **options)
    first, second = make_benchmark(make_tasks(2)).train_stream
    strategy.train(first, eval_streams=[])
    with pytest.raises(ValueError, match=message):
        strategy.train(second, eval_streams=[])
    assert model.labels == [0]


@pytest.mark.parametrize("name", ["EWC", "MAS", "SynapticIntelligence"])
def test_penalties_by_place_are_refused_where_weights_change_their_places(name):
    tasks, options = make_tasks(2), STRATEGIES[name]

    def train(method, isolation):
        model = TaskMasks(make_mlp(), make_config(method, backend="condensed"), isolation=isolation)
        strategy = make_strategy(model, strategy=strategy_class(name), epochs=1, **options)
        strategy.train(make_benchmark(tasks).train_stream, eval_streams=[])

    with pytest.raises(ValueError, match=rf"{name}Plugin .*condensed layers.*backend='masked' can"):
        train("set", "none")
    train("static", "none")
    train("set", "hard")


def test_one_mask_isolation_is_enough():
    model = TaskMasks(make_mlp(), make_config())
    strategy = make_strategy(model, plugins=[MaskIsolation(), MaskIsolation()])
    with pytest.raises(ValueError, match="MaskIsolation is among the strategy's plugins twice"):
        strategy.train(make_benchmark(make_tasks(1)).train_stream, eval_streams=[])
