"""Isolation: what a task has learnt stays, to the bit; what is tested is what was trained."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from continual import TaskMasks
from continual.avalanche_compat import avalanche
from continual.tasks.isolation import reserved
from tests.continual.tiny_tasks import (
    CLASSES,
    FEATURES,
    logits,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)
from tests.squares import squares


def train(model, tasks, optimizer="sgd", after=lambda label: None, **options):
    strategy = make_strategy(model, optimizer, **options)
    for label, experience in enumerate(make_benchmark(tasks).train_stream):
        strategy.train(experience, eval_streams=[])
        after(label)
    return strategy


def check_isolation(model, tasks, optimizer="sgd", **options):
    """Train on all tasks; after each one, all earlier ones must answer as they did, to the bit."""
    answers: dict[int, torch.Tensor] = {}

    def compare(label):
        answers[label] = logits(model, label, tasks[label])
        for earlier, answer in answers.items():
            assert torch.equal(logits(model, earlier, tasks[earlier]), answer), (label, earlier)

    train(model, tasks, optimizer, compare, **options)
    assert len(answers) == len(tasks)
    return answers


@pytest.mark.parametrize(
    ("share", "method", "optimizer"),
    squares(
        ["none", "reuse", "forward"], ["static", "set", "rigl", "srigl"], ["sgd", "adam", "adamw"]
    ),
)
def test_earlier_tasks_answer_as_they_did_to_the_bit(method, share, optimizer):
    tasks = make_tasks()
    model = TaskMasks(make_mlp(), make_config(method), share=share)
    answers = check_isolation(model, tasks, optimizer)
    assert not torch.equal(answers[0], logits(model, 1, tasks[0]))  # tasks do differ
    if method != "static":
        assert model.engine.updates > len(tasks)


@pytest.mark.parametrize(
    "config",
    [
        make_config("rigl_itop"),
        make_config("snfs"),
        make_config("mest", slack=0.1),
        make_config("gse", scope="global"),
        make_config("topkast"),
        make_config("sr_ste", structure="1:4", sparsity=0.75),
        make_config("rigl", optimizer_state="keep"),
        make_config("srigl", group=2),
        make_config("set", growth="unfired"),
    ],
    ids=lambda config: config.method,
)
def test_every_method_is_isolated(config):
    """Latent weights, budgets that move between layers and kept moments included."""
    model = TaskMasks(make_mlp(), config)
    check_isolation(model, make_tasks(), "adamw", epochs=8)
    total = sum(tensor.budget for tensor in model.engine.tensors)
    if config.method != "srigl":  # whose groups of two leave a weight of an odd budget
        for label in range(3):
            assert sum(int(mask.sum()) for mask in model.masks(label).values()) == total


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(20), nn.LayerNorm(20), nn.BatchNorm1d(20, affine=False)]
)
def test_normalisation_layers_are_each_task_s_own(norm):
    net = nn.Sequential(nn.Linear(FEATURES, 20), norm, nn.ReLU(), nn.Linear(20, CLASSES))
    check_isolation(TaskMasks(net, make_config()), make_tasks(), "adam")


def test_running_statistics_of_finished_tasks_stand_still_under_replay():
    net = nn.Sequential(nn.Linear(FEATURES, 20), nn.BatchNorm1d(20), nn.Linear(20, CLASSES))
    model = TaskMasks(net, make_config())
    replay = avalanche.training.Replay
    check_isolation(model, make_tasks(), strategy=replay, mem_size=20)
    own = [buffer for task in model.tasks.values() for buffer in task.own.buffers()]
    assert any(bool(buffer.any()) for buffer in own)


def test_dense_layers_and_convolutions():
    net = nn.Sequential(
        nn.Unflatten(1, (1, FEATURES)),
        nn.Conv1d(1, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * (FEATURES - 2), 16),
        nn.ReLU(),
        nn.Linear(16, CLASSES),
    )
    model = TaskMasks(net, make_config(dense=("input",)))
    check_isolation(model, make_tasks(), "adamw")
    assert model.capacity()[0].name == "4.weight"  # the dense convolution takes no shared room


@pytest.mark.parametrize("share", ["none", "reuse", "forward"])
def test_the_network_tested_is_the_network_trained(share):
    """Guards against weights that are regrown at zero in training and regain a value at test."""
    tasks = make_tasks()
    model = TaskMasks(make_mlp(), make_config("set"), share=share)
    strategy = make_strategy(model)
    for label, experience in enumerate(make_benchmark(tasks).train_stream):
        trained = {}

        class Catch(avalanche.core.SupervisedPlugin):
            def after_training_epoch(self, strategy, **kwargs):
                with torch.no_grad():
                    trained["logits"] = strategy.model.model(tasks[label].test_x)  # noqa: B023

        strategy.plugins = [p for p in strategy.plugins if type(p).__name__ != "Catch"] + [Catch()]
        strategy.train(experience, eval_streams=[])
        assert torch.equal(trained["logits"], logits(model, label, tasks[label]))


@pytest.mark.parametrize("method", ["static", "set", "rigl", "srigl"])
@pytest.mark.parametrize("share", ["none", "reuse"])
def test_every_task_has_its_budget_in_every_layer(method, share):
    """Guards against density that leaks away from task to task."""
    model = TaskMasks(make_mlp(), make_config(method, ablation=False), share=share)
    tasks = make_tasks()
    train(model, tasks)
    for label in range(len(tasks)):
        masks = model.masks(label)
        for tensor in model.engine.tensors:
            assert int(masks[tensor.name].sum()) == tensor.budget
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) <= round(0.2 * total)


@pytest.mark.parametrize("share", ["none", "forward", "all"])
@pytest.mark.parametrize(
    "config",
    [
        make_config("rigl_itop"),
        make_config("snfs"),
        make_config("mest", slack=0.1),
        make_config("gse", scope="global"),
        make_config("topkast"),
        make_config("granet"),
        make_config("gmp"),
        make_config("edge_popup"),
        make_config("wsn"),
    ],
    ids=lambda config: config.method,
)
def test_no_method_takes_what_belongs_to_others(config, share):
    model = TaskMasks(make_mlp(), config, share=share)
    train(model, make_tasks())
    for tensor in model._shared:
        masks = [model.masks(label)[tensor.name] for label in range(3)]
        assert int(torch.stack(masks).sum(0).max()) == 1
        for label in (1, 2) if share == "forward" else ():
            closed = reserved(tensor, [model._task(earlier) for earlier in range(label)])
            assert not bool(masks[label][closed].any())


def test_masks_of_tasks_are_disjoint_unless_reused():
    tasks = make_tasks()
    for share in ("none", "reuse"):
        model = TaskMasks(make_mlp(), make_config(), share=share)
        train(model, tasks)
        shared = [tensor.name for tensor in model._shared]
        union = {name: sum(model.masks(t)[name].int() for t in range(3)) for name in shared}
        overlap = any(bool((count > 1).any()) for count in union.values())
        assert overlap == (share == "reuse")
        for layer in model.capacity():
            assert layer.used == int((union[layer.name] > 0).sum())


def test_constant_fan_in_holds_for_every_task():
    model = TaskMasks(make_mlp(), make_config("srigl", ablation=False))
    train(model, make_tasks())
    for label in range(3):
        for mask in model.masks(label).values():
            fan_in = mask.sum(1)
            assert fan_in.max() - fan_in.min() <= 1


def test_no_isolation_trains_one_network_that_forgets():
    tasks = make_tasks()
    model = TaskMasks(make_mlp(), make_config(), isolation="none")
    first = []
    train(model, tasks, after=lambda label: first.append(logits(model, 0, tasks[0])))
    assert not torch.equal(first[0], first[2])
    shared = [tensor.name for tensor in model._shared]
    assert all(torch.equal(model.masks(0)[name], model.masks(2)[name]) for name in shared)
    for tensor in model.engine.tensors:
        assert tensor.count() == tensor.budget
        assert tensor.protected is None


def test_no_isolation_lets_replay_train_earlier_heads():
    tasks = make_tasks()
    model = TaskMasks(make_mlp(), make_config(), isolation="none")
    heads = []

    def note(label):
        place = next(place for place in model._places if place.name.endswith("bias"))
        heads.append(model.tasks["0"].tensor(place).detach().clone())

    train(model, tasks, after=note, strategy=avalanche.training.Replay, mem_size=20)
    assert not torch.equal(heads[0], heads[2])


def test_same_seed_same_bytes():
    runs = []
    for _ in range(2):
        model = TaskMasks(make_mlp(), make_config("set"))
        train(model, make_tasks(), "adam")
        runs.append(copy.deepcopy(model.state_dict()))
    assert list(runs[0]) == list(runs[1])
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])
