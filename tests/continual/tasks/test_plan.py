"""Whether tasks fit is said before the first is trained, and what is said to help does help."""

from __future__ import annotations

import ast
import dataclasses
import re
import warnings

import pytest
import torch
from torch import nn

from continual import TaskMasks
from continual.runs.build import make_model
from continual.runs.data import TaskData
from continual.runs.spec import CLSpec
from continual.tasks.plan import Plan
from sparse_core.budgets.selection import select
from sparse_core.config import SparseConfig
from tests.continual.tiny_tasks import (
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)


def make_cnn():
    """Its first convolution is small: ERK makes it dense, and no second task fits."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.Flatten()]
    return nn.Sequential(*convolutions, nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 3))


def refusal(net=make_cnn, tasks=4, share="none", **changes):
    config = make_config("static", **{"sparsity": 0.6} | changes)
    with pytest.raises(ValueError) as caught:
        TaskMasks(net(), config, share=share, tasks=tasks)
    said = str(caught.value)
    assert "\n" not in said and said.startswith(f"tasks={tasks}: at sparsity ")
    return said


def test_the_refusal_names_the_layer_the_room_and_what_helps():
    """By hand: ERK shares 7178 weights as 17 : 30 : 320 : 67, and the first layer has but 216."""
    said = refusal()
    assert "only 1 have room beside each other, then layer '0.weight' is full; 4 fit with" in said
    assert said.endswith(", or share='reuse'")


def test_a_refused_network_is_as_it_was():
    net = make_cnn()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match="tasks=4"):
        TaskMasks(net, make_config("static", sparsity=0.6), tasks=4)
    assert type(net[0]) is nn.Conv2d and not hasattr(net, "sparse_engine")
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    TaskMasks(net, make_config("static", sparsity=0.6), tasks=1)


@pytest.mark.parametrize("share", ["none", "all", "forward"])
@pytest.mark.parametrize(
    ("net", "tasks", "changes"),
    [
        (make_cnn, 2, {"sparsity": 0.6}),
        (make_cnn, 3, {"sparsity": 0.8}),
        (make_cnn, 7, {"sparsity": 0.8, "distribution": "er"}),
        (make_cnn, 4, {"sparsity": 0.6, "structure": "constant_fan_in"}),
        (make_mlp, 9, {"sparsity": 0.7, "distribution": "uniform"}),
        (make_mlp, 6, {"sparsity": 0.8, "dense": ("output",)}),
    ],
)
def test_each_remedy_makes_all_tasks_fit(net, tasks, changes, share):
    said = refusal(net, tasks, share, **changes)
    remedies = said.partition(" fit with ")[2].split(", or ")
    assert remedies != [""] and ("share='reuse'" in remedies) == (share == "none")
    for remedy in remedies:
        found = dict(re.findall(r"(\w+)=([\w.']+)", remedy))
        values = {name: ast.literal_eval(value) for name, value in found.items()}
        options = {"share": share} | {k: values.pop(k) for k in ("share", "reserve") if k in values}
        config = make_config("static", **changes | values)
        model = TaskMasks(net(), config, tasks=tasks, **options)
        for label in range(tasks):
            model.begin(label)
            model.end()


def ablating(sparsity, share="none", backend="masked", tasks=None, threshold=0.9):
    """Neurons with less than nine tenths of their weights salient go: most of them."""
    settings = {"ablation_threshold": threshold, "distribution": "uniform", "backend": backend}
    config = make_config("srigl", sparsity=sparsity, **settings)
    return TaskMasks(make_mlp(), config, share=share, tasks=tasks)


def train_one(model, label):
    task = make_tasks(1)[0]
    model.begin(label)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.attach(optimizer, 12)
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(task.train_x), task.train_y).backward()
        optimizer.step()
    model.end()


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize(
    ("sparsity", "share"), [(0.7, "none"), (0.8, "none"), (0.9, "none"), (0.8, "forward")]
)
def test_ablation_leaves_announced_tasks_their_places(sparsity, share, backend):
    tasks = ablating(sparsity, share, backend).room()
    model = ablating(sparsity, share, backend, tasks)
    for label in range(tasks):
        train_one(model, label)
    assert any(bool((mask.sum(1) == 0).any()) for mask in model.masks(0).values())


def test_a_loaded_model_leaves_announced_tasks_their_places_too():
    model, fresh = (ablating(0.8, tasks=3) for _ in range(2))
    model.begin(0)
    fresh.load_state_dict(model.state_dict())
    spare = [tensor.spare for tensor in model._shared]
    assert all(spare) and [tensor.spare for tensor in fresh._shared] == spare


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_ablation_beside_earlier_tasks_keeps_fan_ins_equal(backend):
    """A neuron cannot have more weights than it has places left."""
    model = ablating(0.6, backend=backend, threshold=0.8)
    for label in range(2):
        train_one(model, label)
        for mask in model.masks(label).values():
            fan_in = mask.sum(1)
            assert fan_in.max() - fan_in[fan_in > 0].min() <= 1


@pytest.mark.parametrize("distribution", ["erk", "uniform"])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.93])
def test_it_reckons_what_the_sparse_network_has_room_for(sparsity, distribution):
    config = make_config("static", sparsity=sparsity, distribution=distribution)
    room = TaskMasks(make_mlp(), config).room()
    assert min(Plan(select(make_mlp()), config, "none").rooms().values()) == room
    TaskMasks(make_mlp(), config, tasks=room)
    with pytest.raises(ValueError, match=rf"only {room} have room"):
        TaskMasks(make_mlp(), config, tasks=room + 1)


def test_where_tasks_share_any_number_fits():
    TaskMasks(make_mlp(), make_config(), share="reuse", tasks=1000)
    TaskMasks(make_mlp(), make_config(), isolation="none", tasks=1000)
    with pytest.raises(ValueError, match="tasks=0: must be an integer of at least 1"):
        TaskMasks(make_mlp(), make_config(), isolation="none", tasks=0)


def test_patterns_of_their_own_sparsity_leave_no_choice():
    said = refusal(make_mlp, 3, structure="2:4", sparsity=0.5)
    assert said.endswith("; 3 fit with share='reuse'")
    said = refusal(make_mlp, 3, share="all", structure="2:4", sparsity=0.5)
    assert said.endswith("; no sparsity up to 0.999 helps, only another network")


def test_a_task_that_does_not_fit_says_what_would_have_helped():
    model = TaskMasks(make_cnn(), make_config("static", sparsity=0.6))
    model.begin(0)
    model.end()
    with pytest.raises(ValueError, match=r"task 1 does not fit: .*; 2 fit with .*share='reuse'"):
        model.begin(1)


def test_a_run_is_refused_before_training_by_the_names_of_its_fields():
    task = TaskData(*(torch.zeros(10, 64), torch.arange(10)) * 2)
    sparse = SparseConfig(method="static", sparsity=0.9)
    spec = CLSpec(tasks=8, hidden=(200, 200), sparse=sparse)
    with pytest.raises(ValueError) as caught:
        make_model(spec, task)
    said = str(caught.value)
    assert "only 7 have room beside each other, then layer '0.weight' is full" in said
    assert "sparse.distribution='uniform'" in said and "sparse.sparsity=0.91" in said
    make_model(dataclasses.replace(spec, tasks=7), task)


@pytest.mark.parametrize(("sparsity", "warned"), [(0.6, 1), (0.8, 0)])
def test_a_stream_that_does_not_fit_is_warned_of_before_its_first_task(sparsity, warned):
    config = make_config("static", sparsity=sparsity, distribution="uniform")
    strategy = make_strategy(TaskMasks(make_mlp(), config), epochs=1)
    stream = make_benchmark(make_tasks(3)).train_stream
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for experience in (stream[0], stream[1]):
            strategy.train(experience, eval_streams=[])
    about = [str(one.message) for one in said if "more tasks than fit" in str(one.message)]
    assert len(about) == warned
    assert all("tasks=3: at sparsity 0.6 only 2 have room" in line for line in about)


def test_wider_layers_are_named_where_they_help():
    """ERK gives a layer the less of its weights the wider it is."""
    task = TaskData(*(torch.zeros(10, 64), torch.arange(10)) * 2)
    spec = CLSpec(tasks=6, hidden=(20, 20), sparse=SparseConfig(method="static", sparsity=0.85))
    with pytest.raises(ValueError, match=r"or hidden=\(40, 40\), or share='reuse'"):
        make_model(spec, task)
    make_model(dataclasses.replace(spec, hidden=(40, 40)), task)
