"""Training loops of one's own: isolation does not hang on `attach`, and what does says so."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from continual import TaskMasks
from continual.tasks.rules import SHARING_POLICIES
from tests.continual.tiny_tasks import (
    CLASSES,
    FEATURES,
    OPTIMIZERS,
    logits,
    make_config,
    make_mlp,
    make_tasks,
)

pytestmark = pytest.mark.filterwarnings("ignore:SGD holds the sparse weight")

OTHERS = OPTIMIZERS | {
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    "lbfgs": lambda p: torch.optim.LBFGS(list(p), lr=0.1, max_iter=2),
}


def train(model, task, optimizer, steps=6):
    model.train()
    for _ in range(steps):

        def closure():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(task.train_x), task.train_y)
            loss.backward()
            return loss

        optimizer.step(closure)


def by_hand(model, task, steps=6):
    """No optimizer at all: gradient descent, and decay of all there is, written into the data."""
    model.train()
    for _ in range(steps):
        model.zero_grad()
        nn.functional.cross_entropy(model(task.train_x), task.train_y).backward()
        for parameter in model.parameters():
            gradient = 0 if parameter.grad is None else parameter.grad
            parameter.data -= 0.1 * (gradient + 0.1 * parameter.data)


def check_finished(model, answers, tasks):
    for label, answer in answers.items():
        assert torch.equal(logits(model, label, tasks[label]), answer), label


@pytest.mark.parametrize("kept", [False, True], ids=["fresh optimizers", "old ones step on"])
@pytest.mark.parametrize("optimizer", OTHERS)
@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("share", SHARING_POLICIES)
def test_finished_tasks_stay_to_the_bit_without_attach(share, backend, optimizer, kept):
    model = TaskMasks(make_mlp(), make_config("static", backend=backend), share=share)
    tasks, answers, trainers = make_tasks(), {}, []
    for label, task in enumerate(tasks):
        model.begin(label)
        trainers = [*(trainers if kept else ()), OTHERS[optimizer](model.parameters())]
        for trainer in trainers:
            train(model, task, trainer)
        before = logits(model, label, task)
        model.end()
        answers[label] = logits(model, label, task)
        assert torch.equal(answers[label], before)  # what is kept is what was trained
        check_finished(model, answers, tasks)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("share", SHARING_POLICIES)
def test_static_tasks_learn_the_same_with_attach_and_without(share, backend, optimizer):
    """Whatever is read of earlier tasks is what it was; the attached engine is the oracle."""
    tasks, models = make_tasks(), []
    for attached in (True, False):
        model = TaskMasks(make_mlp(), make_config("static", backend=backend), share=share)
        for label, task in enumerate(tasks):
            model.begin(label)
            trainer = OPTIMIZERS[optimizer](model.parameters())
            if attached:
                model.attach(trainer)
            train(model, task, trainer)
            model.end()
        models.append(model)
    first, second = (model.state_dict() for model in models)
    differing = [key for key in first if not torch.equal(first[key], second[key])]
    assert differing == ["model.sparse_clock"]  # the engine saw no steps


@pytest.mark.parametrize("share", SHARING_POLICIES)
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_no_optimizer_at_all_changes_no_bit_either(backend, share):
    model = TaskMasks(make_mlp(), make_config("static", backend=backend), share=share)
    tasks, answers = make_tasks(), {}
    for label, task in enumerate(tasks):
        model.begin(label)
        by_hand(model, task)
        model.end()
        answers[label] = logits(model, label, task)
        check_finished(model, answers, tasks)


@pytest.mark.parametrize("share", SHARING_POLICIES)
def test_weights_of_finished_tasks_are_saved_as_they_are_whatever_was_written_over_them(share):
    """In the middle of a task, too, and a model that loads them goes on as this one does."""
    model = TaskMasks(make_mlp(), make_config("static"), share=share)
    tasks = make_tasks(2)
    model.begin(0)
    by_hand(model, tasks[0])
    model.end()
    answer = logits(model, 0, tasks[0])
    saved = copy.deepcopy(model.state_dict())
    model.begin(1)
    by_hand(model, tasks[1])
    state = model.state_dict()
    for tensor in model._shared:
        name = f"model.{tensor.name}"
        assert torch.equal(state[name][tensor.protected], saved[name][tensor.protected])
    fresh = TaskMasks(make_mlp(), make_config("static"), share=share)
    fresh.load_state_dict(state)
    assert torch.equal(logits(fresh, 0, tasks[0]), answer)
    assert torch.equal(logits(fresh, 1, tasks[1]), logits(model, 1, tasks[1]))


def test_running_statistics_of_an_finished_task_are_no_longer_the_network_s():
    def made():
        net = nn.Sequential(nn.Linear(FEATURES, 20), nn.BatchNorm1d(20), nn.Linear(20, CLASSES))
        return TaskMasks(net, make_config("static"))

    model, task = made(), make_tasks(1)[0]
    model.begin(0)
    train(model, task, OPTIMIZERS["sgd"](model.parameters()))
    model.end()
    answer = logits(model, 0, task)
    model.train().model(10 * task.train_x)
    assert torch.equal(logits(model, 0, task), answer)
    fresh = made()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(logits(fresh, 0, task), answer)
    fresh.train().model(10 * task.train_x)
    assert torch.equal(logits(fresh, 0, task), answer)


def test_the_optimizer_of_an_earlier_task_does_not_stand_for_that_of_the_next():
    model = TaskMasks(make_mlp(), make_config("static"))
    tasks, first = make_tasks(2), []
    for label, task in enumerate(tasks):
        model.begin(label)
        trainer = OPTIMIZERS["sgd"](model.parameters())
        if label == 0:
            model.attach(trainer)
        train(model, task, trainer)
        model.end()
        assert model.engine.optimizer is None
        first.append(logits(model, 0, tasks[0]))
    assert torch.equal(*first)


@pytest.mark.parametrize("isolation", ["hard", "none"])
@pytest.mark.parametrize("method", ["rigl", "srigl", "edge_popup", "one_shot"])
@pytest.mark.parametrize("other", [False, True], ids=["none attached", "another attached"])
def test_masks_that_were_to_move_and_could_not_are_an_error_at_the_end(other, method, isolation):
    if isolation == "none" and method == "edge_popup":
        pytest.skip("needs isolation")
    model = TaskMasks(make_mlp(), make_config(method), isolation=isolation)
    task = make_tasks(1)[0]
    model.begin(0)
    if other:
        model.attach(OPTIMIZERS["sgd"](model.parameters()), 6)
    trainer = OPTIMIZERS["sgd"](model.parameters())
    train(model, task, trainer)
    before = copy.deepcopy(model.state_dict())
    message = rf"^task 0: method '{method}' moves masks on .*: call attach\(optimizer\) after begin"
    with pytest.raises(RuntimeError, match=message):
        model.end()
    after = model.state_dict()
    assert model.label == 0 and all(torch.equal(after[key], before[key]) for key in before)
    model.attach(trainer, 6)
    train(model, task, trainer)
    model.end()
    assert model.label is None and model.engine.updates > 0


@pytest.mark.parametrize("isolation", ["hard", "none"])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_an_optimizer_that_is_older_than_the_task_is_an_error_at_the_end(backend, isolation):
    """It would train neither biases nor head, and silently."""
    model = TaskMasks(make_mlp(), make_config("static", backend=backend), isolation=isolation)
    trainer, tasks = OPTIMIZERS["sgd"](model.parameters()), make_tasks(2)
    if backend == "condensed":
        model.expect(trainer)
    model.begin(0)
    train(model, tasks[0], trainer)
    model.end()
    model.begin(1)
    train(model, tasks[1], trainer)
    with pytest.raises(RuntimeError, match=r"^task 1: no step changed .*attach\(optimizer\)"):
        model.end()
    model.attach(trainer)
    train(model, tasks[1], trainer)
    model.end()
    assert model.label is None


def test_without_isolation_the_next_task_does_not_begin_either():
    model = TaskMasks(make_mlp(), make_config(), isolation="none")
    model.begin(0)
    train(model, make_tasks(1)[0], OPTIMIZERS["sgd"](model.parameters()))
    with pytest.raises(RuntimeError, match=r"^task 0: .*attach\(optimizer\)"):
        model.begin(1)
    assert (model.label, model.labels) == (0, [0])


def test_a_task_that_was_not_trained_may_end():
    """One that only saw data, as to warm up normalisation layers, was not trained."""
    model = TaskMasks(make_mlp(), make_config())
    model.begin(0)
    model.train()(make_tasks(1)[0].train_x)
    model.end()
    assert model.label is None


def test_a_wrong_length_of_training_changes_nothing():
    model = TaskMasks(make_mlp(), make_config())
    model.begin(0)
    with pytest.raises(ValueError, match="steps=-1: must be an integer of at least 0"):
        model.attach(OPTIMIZERS["sgd"](model.parameters()), -1)
    assert model.engine.optimizer is None
