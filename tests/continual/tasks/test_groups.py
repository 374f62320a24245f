"""Optimizers with several parameter groups: each task's tensors lie where their predecessors do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim import SGD, AdamW

from continual import WSN, MaskIsolation, SRigLCL, SupSup, TaskMasks
from continual.avalanche_compat import avalanche
from sparse_core.config import SparseConfig
from tests.continual.tasks.test_own_loop import train
from tests.continual.tiny_tasks import (
    logits,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)


def no_decay(named):
    """No decay on biases, the usual two groups; scores are not thought of."""
    named = dict(named)
    biases = [p for name, p in named.items() if name.endswith("bias")]
    others = [p for name, p in named.items() if name.endswith(("weight", "values"))]
    return [{"params": others, "weight_decay": 1e-2}, {"params": biases, "weight_decay": 0.0}]


def body_and_head(named):
    named = dict(named)
    head = [p for name, p in named.items() if name.startswith("4.")]
    body = [p for name, p in named.items() if not name.startswith("4.")]
    return [{"params": body, "lr": 0.05}, {"params": head, "lr": 0.01}]


SPLITS = {"no decay": no_decay, "body and head": body_and_head}
KINDS = {"sgd": lambda p: SGD(p, lr=0.1, momentum=0.9), "adamw": lambda p: AdamW(p, lr=0.01)}


def right_group(split, name):
    if split == "no decay":
        return int(name.endswith("bias"))
    return int(name.startswith("4."))


def check_groups(model, optimizer, split, tasks=3):
    """Every tensor that trains is in the optimizer once, and in the group that its name says."""
    places = [(id(p), i) for i, g in enumerate(optimizer.param_groups) for p in g["params"]]
    groups = dict(places)
    assert len(groups) == len(places)
    assert len(model.labels) == tasks
    for label in model.labels:
        for place in model._places:
            if place.trained:
                tensor = model.tasks[str(label)].tensor(place)
                assert groups[id(tensor)] == right_group(split, place.name), (label, place.name)
    for tensor in model.engine.tensors:
        assert groups[id(tensor.weight)] == right_group(split, tensor.name), tensor.name


def learn(strategy, tasks):
    for experience in make_benchmark(tasks).train_stream:
        strategy.train(experience, eval_streams=[])


def silent():
    return avalanche.training.plugins.EvaluationPlugin(loggers=[avalanche.logging.BaseLogger()])


def made(model, optimizer, plugins):
    return avalanche.training.Naive(
        model=model, optimizer=optimizer, train_mb_size=16, plugins=plugins, evaluator=silent()
    )


@pytest.mark.parametrize("wrapped", [True, False], ids=["optimizer after", "optimizer before"])
@pytest.mark.parametrize("isolation", ["hard", "none"])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", SPLITS)
def test_in_avalanche(split, kind, backend, isolation, wrapped):
    """Whether the optimizer was made before the network was wrapped or after."""
    net, tasks = make_mlp(), make_tasks()
    options = {"config": make_config(backend=backend), "isolation": isolation}
    model = TaskMasks(net, **options) if wrapped else None
    optimizer = KINDS[kind](SPLITS[split](net.named_parameters()))
    model = model or TaskMasks(net, **options)
    strategy = made(model, optimizer, [MaskIsolation()])
    first = None
    for experience in make_benchmark(tasks).train_stream:
        strategy.train(experience, eval_streams=[])
        first = logits(model, 0, tasks[0]) if first is None else first
    assert (isolation == "none") or torch.equal(logits(model, 0, tasks[0]), first)
    check_groups(model, optimizer, split)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("named", [SRigLCL, SupSup, WSN])
@pytest.mark.parametrize("split", SPLITS)
def test_with_named_strategies(split, named, backend):
    """Scores of weights are not thought of when groups are made: they lie beside their weights."""
    if named is not SRigLCL and backend == "condensed":
        pytest.skip("scores need masks")
    net = make_mlp()
    optimizer = SGD(SPLITS[split](net.named_parameters()), lr=0.1)
    strategy = named(
        model=net,
        optimizer=optimizer,
        sparse=SparseConfig(sparsity=0.8, backend=backend, update_every=2),
        train_mb_size=16,
        evaluator=silent(),
    )
    learn(strategy, make_tasks())
    check_groups(strategy.model, optimizer, split)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", SPLITS)
def test_in_a_loop_of_one_s_own_with_one_optimizer_for_all_tasks(split, kind, backend):
    """`attach` lets it train the new task's tensors at all."""
    net, tasks = make_mlp(), make_tasks()
    optimizer = KINDS[kind](SPLITS[split](net.named_parameters()))
    model = TaskMasks(net, make_config("rigl", backend=backend))
    for label, task in enumerate(tasks):
        model.begin(label)
        fresh = copy.deepcopy(model._task(label).state_dict())
        model.attach(optimizer)
        train(model, task, optimizer)
        own = dict(model._task(label).named_parameters())
        assert all(not torch.equal(p, fresh[name]) for name, p in own.items())
        model.end()
    check_groups(model, optimizer, split)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_a_rate_of_zero_holds_for_every_task(backend):
    """The property that groups are for: biases that are not to train stay where each task began."""
    net = make_mlp()
    groups = no_decay(net.named_parameters())
    groups[1]["lr"] = 0.0
    optimizer = SGD(groups, lr=0.1)
    model = TaskMasks(net, make_config(backend=backend))
    learn(made(model, optimizer, [MaskIsolation()]), make_tasks())
    for label in range(3):
        task = model._task(label)
        for name in ("0.bias", "2.bias", "4.bias"):
            assert torch.equal(task.named(name), model.fresh.named(name))
        head = "4.weight" if backend == "masked" else "4.values"
        assert not torch.equal(task.named(head), model.fresh.named(head))


@pytest.mark.parametrize("made_first", [True, False], ids=["optimizer before", "optimizer after"])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_a_model_that_was_loaded_goes_on(backend, made_first):
    tasks = make_tasks()
    model = TaskMasks(make_mlp(), make_config(backend=backend))
    learn(make_strategy(model), tasks[:2])

    net = make_mlp()
    fresh = TaskMasks(net, make_config(backend=backend))
    if made_first:
        optimizer = SGD(no_decay(net.named_parameters()), lr=0.1)
    fresh.load_state_dict(model.state_dict())
    if not made_first:
        optimizer = SGD(no_decay(fresh.named_parameters()), lr=0.1)
    strategy = made(fresh, optimizer, [MaskIsolation()])
    strategy.train(list(make_benchmark(tasks).train_stream)[2], eval_streams=[])
    check_groups(fresh, optimizer, "no decay")
    for label in (0, 1):
        assert torch.equal(logits(fresh, label, tasks[0]), logits(model, label, tasks[0]))


def test_names_of_parameters_go_with_them():
    """An optimizer that was made with names saves one for each parameter."""
    model = TaskMasks(make_mlp(), make_config())
    optimizer = SGD(model.named_parameters(), lr=0.1)
    for label in range(2):
        model.begin(label)
        model.attach(optimizer)
        model.end()
    (group,) = optimizer.param_groups
    assert len(group["param_names"]) == len(group["params"])
    SGD(model.parameters(), lr=0.1).load_state_dict(optimizer.state_dict())
