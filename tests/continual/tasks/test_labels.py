"""Labels of tasks stay what they are to the last digit; a refused call leaves nothing behind."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from continual import TaskMasks
from tests.continual.tasks.test_task_masks import learn
from tests.continual.tiny_tasks import (
    FEATURES,
    logits,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)


@pytest.mark.parametrize("isolation", ["hard", "none"])
@pytest.mark.parametrize("label", [2**24, 20261129, 2**53, 2**63 - 2])
def test_labels_that_floats_would_round(label, isolation):
    """Neighbours that float32 cannot tell apart, the last two not even float64."""
    tasks = make_tasks(2)
    model = learn(TaskMasks(make_mlp(), make_config(), isolation=isolation), tasks, first=label)
    model = model.float().eval()
    assert model.labels == [label, label + 1]
    fresh = TaskMasks(make_mlp(), make_config(), isolation=isolation).eval()
    fresh.load_state_dict(model.state_dict())
    assert fresh.labels == model.labels
    x = tasks[0].test_x[:6]
    answers = [model(x, label), model(x, label + 1)]
    assert not torch.equal(*answers)
    mixed = fresh(x, torch.tensor([label, label + 1] * 3))
    torch.testing.assert_close(mixed[::2], answers[0][::2])
    torch.testing.assert_close(mixed[1::2], answers[1][1::2])
    for i in (0, 1):
        assert torch.equal(fresh(x, label + i), answers[i])


@pytest.mark.parametrize("label", [np.int64(7), torch.tensor(7), np.uint8(7)])
def test_any_integer_is_a_label(label):
    model = TaskMasks(make_mlp(), make_config())
    model.begin(label)
    assert (model.label, model.labels, list(model.tasks)) == (7, [7], ["7"])
    model.begin(7)
    assert model.labels == [7]


WRONG = {
    -1: "task label -1: must not be negative",
    1.5: "task label 1.5: must be an integer",
    "1": "task label '1': must be an integer",
    2**63: r"task label 9223372036854775808: must be below 2\^63",
    2**70: r"must be below 2\^63",
}


@pytest.mark.parametrize("isolation", ["hard", "none"])
@pytest.mark.parametrize("label", WRONG)
def test_what_is_no_label_is_refused_and_nothing_has_changed(label, isolation):
    """The task in training goes on, whatever the isolation."""
    model = learn(TaskMasks(make_mlp(), make_config(), isolation=isolation), make_tasks(1))
    model.begin(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.attach(optimizer)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=WRONG[label]):
        model.begin(label)
    after = model.state_dict()
    assert (model.label, model.labels) == (1, [0, 1])
    assert model.engine.optimizer is optimizer
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_of_several_tasks_none_begins_if_one_is_refused():
    class Experience:
        task_labels = (0, 1, -1)

    model = TaskMasks(make_mlp(), make_config(), isolation="none")
    with pytest.raises(ValueError, match="task label -1"):
        model.adaptation(Experience())
    assert (model.label, model.labels) == (None, [])


def test_labels_of_samples_that_are_floats_are_refused():
    model = learn(TaskMasks(make_mlp(), make_config()), make_tasks(1), first=2**24)
    with pytest.raises(ValueError, match=r"task_labels are torch.float32: must be integers"):
        model(torch.zeros(2, FEATURES), torch.full((2,), float(2**24)))


def test_an_experience_that_is_refused_ends_no_task_and_begins_none():
    """In Avalanche: the task of the second experience has ended already."""
    tasks = make_tasks(2)
    first, second = make_benchmark(tasks).train_stream
    model = TaskMasks(make_mlp(), make_config())
    strategy = make_strategy(model)
    strategy.train([first, second], eval_streams=[])
    before = copy.deepcopy(model.state_dict())
    answer = logits(model, 0, tasks[0])
    with pytest.raises(ValueError, match="task 0 has ended"):
        strategy.train(first, eval_streams=[])
    after = model.state_dict()
    assert (model.label, model.labels) == (None, [0, 1])
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert torch.equal(logits(model, 0, tasks[0]), answer)


def test_a_network_that_tasks_cannot_share_is_left_dense():
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].bias = tied[0].bias
    with pytest.raises(ValueError, match=r"'0.bias' and '1.bias' are one tensor"):
        TaskMasks(tied, make_config(sparsity=0.5))
    assert [type(layer) for layer in tied] == [nn.Linear, nn.Linear]
    assert not hasattr(tied, "sparse_engine")
