"""`TaskMasks` under Avalanche's strategies: isolated tasks stay as they are, to the bit."""

from __future__ import annotations

import pytest
import torch

from continual import TaskMasks
from continual.avalanche_compat import avalanche
from tests.continual.test_isolation import check_isolation
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
    "FromScratchTraining": ({}, "FromScratchTrainingPlugin cannot go .*: it re-initialises all"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_strategies_that_retrain_everything_need_no_isolation(name):
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


def test_cope_is_refused():
    strategy = make_strategy(
        TaskMasks(make_mlp(), make_config(), isolation="none"),
        strategy=avalanche.training.CoPE,
        mem_size=20,
        n_classes=3,
        p_size=3,
    )
    with pytest.raises(ValueError, match=r"CoPEPlugin cannot go with MaskIsolation"):
        strategy.train(make_benchmark(make_tasks()).train_stream, eval_streams=[])
