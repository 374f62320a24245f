"""Checkpoints of `TaskMasks` that do not belong to the model: one clear line, nothing changed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from continual import TaskMasks
from tests.continual.tasks.test_task_masks import learn
from tests.continual.tiny_tasks import (
    OPTIMIZERS,
    logits,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

SHARING_POLICIES = ("none", "reuse", "forward", "all")


def refused(model, state):
    """Load what does not belong there; the model must stay as it is, and answer as it did."""
    task = make_tasks(1)[0]
    before, answer = copy.deepcopy(model.state_dict()), logits(model, 0, task)
    with pytest.raises(ValueError, match=r"^checkpoint of another model: [^\n]*$"):
        model.load_state_dict(state)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert torch.equal(logits(model, 0, task), answer)


@pytest.mark.parametrize(
    ("saved", "here"), [(a, b) for a in SHARING_POLICIES for b in SHARING_POLICIES if a != b]
)
def test_another_sharing_policy_is_refused(saved, here):
    """Finished tasks read other weights under another policy: they would answer otherwise."""
    model = learn(TaskMasks(make_mlp(), make_config(), share=saved), make_tasks(2))
    other = learn(TaskMasks(make_mlp(), make_config(), share=here), make_tasks(1))
    refused(other, model.state_dict())


@pytest.mark.parametrize(("saved", "here"), [("hard", "none"), ("none", "hard")])
def test_another_isolation_is_refused(saved, here):
    model = learn(TaskMasks(make_mlp(), make_config(), isolation=saved), make_tasks(2))
    other = learn(TaskMasks(make_mlp(), make_config(), isolation=here), make_tasks(1))
    refused(other, model.state_dict())


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize(
    "key", ["current", "tasks.1.index", "tasks.1.own.0/bias", "tasks.1.masks.4/weight"]
)
def test_a_checkpoint_that_lacks_something_is_refused(key, backend):
    model = learn(TaskMasks(make_mlp(), make_config(backend=backend)), make_tasks(2))
    other = learn(TaskMasks(make_mlp(), make_config(backend=backend)), make_tasks(1))
    refused(other, {name: value for name, value in model.state_dict().items() if name != key})


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("key", ["current", "tasks.1.own.0/bias", "tasks.1.masks.0/weight"])
def test_a_checkpoint_with_other_shapes_is_refused(key, backend):
    model = learn(TaskMasks(make_mlp(), make_config(backend=backend)), make_tasks(2))
    other = learn(TaskMasks(make_mlp(), make_config(backend=backend)), make_tasks(1))
    state = model.state_dict()
    refused(other, state | {key: torch.stack([state[key], state[key]])})


def begun(steps=4, **options):
    """One task learnt, the second in training."""
    model = learn(TaskMasks(make_mlp(), make_config(**options)), make_tasks(1))
    model.train().begin(1)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    model.attach(optimizer, 12)
    return train(model, optimizer, steps)


def train(model, optimizer, steps):
    task = make_tasks(2)[1]
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(task.train_x), task.train_y).backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_an_optimizer_goes_on_with_a_model_that_its_own_checkpoint_was_loaded_into(backend):
    """As one does to go back to the best weights so far."""
    model, optimizer = begun(backend=backend)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train(model, optimizer, 8)
    model.end()
    expected = logits(model, 1, make_tasks(2)[1])

    model, optimizer = begun(backend=backend)
    train(model, optimizer, 2)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    train(model, optimizer, 8)
    model.end()
    assert torch.equal(logits(model, 1, make_tasks(2)[1]), expected)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("first", ["attach", "load"])
def test_a_task_resumed_in_its_middle_goes_on_as_it_would_have(first, backend):
    """Whether the optimizer gets its state before it is attached or after."""
    model, optimizer = begun(backend=backend)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train(model, optimizer, 8)

    fresh = TaskMasks(make_mlp(), make_config(backend=backend))
    fresh.load_state_dict(saved[0])
    other = OPTIMIZERS["adam"](fresh.train().parameters())
    if first == "load":
        other.load_state_dict(saved[1])
    fresh.attach(other, 12)
    if first == "attach":
        other.load_state_dict(saved[1])
    train(fresh, other, 8)
    for key, value in model.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


@pytest.mark.filterwarnings("ignore:PyTorch was compiled without")
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_avalanche_saves_and_loads_a_strategy_without_its_optimizer(backend, tmp_path):
    """Nothing of the model holds the optimizer of a task that has ended."""
    from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint

    tasks = make_tasks()
    experiences = list(make_benchmark(tasks).train_stream)
    strategy = make_strategy(TaskMasks(make_mlp(), make_config(backend=backend)))
    for experience in experiences[:2]:
        strategy.train(experience, eval_streams=[])
    save_checkpoint(strategy, tmp_path / "strategy.pkl", exclude=["optimizer"])
    other = make_strategy(TaskMasks(make_mlp(), make_config(backend=backend)))
    other, done = maybe_load_checkpoint(other, tmp_path / "strategy.pkl")
    assert done == 2 and other.model.labels == [0, 1]
    for label in (0, 1):
        expected = logits(strategy.model, label, tasks[label])
        assert torch.equal(logits(other.model, label, tasks[label]), expected)
    other.optimizer = OPTIMIZERS["sgd"](other.model.parameters())
    other.train(experiences[2], eval_streams=[])
    assert other.model.labels == [0, 1, 2]
    assert torch.equal(logits(other.model, 0, tasks[0]), logits(strategy.model, 0, tasks[0]))


@pytest.mark.filterwarnings("ignore:the stream has more tasks than fit")
def test_an_optimizer_that_was_to_train_a_refused_task_is_not_saved_with_the_model():
    tasks = make_tasks()
    config = make_config(sparsity=0.6, distribution="uniform")
    strategy = make_strategy(TaskMasks(make_mlp(), config))
    experiences = list(make_benchmark(tasks).train_stream)
    strategy.train(experiences[:2], eval_streams=[])
    with pytest.raises(ValueError, match="task 2 does not fit"):
        strategy.train(experiences[2], eval_streams=[])
    held = copy.deepcopy(strategy.model).__dict__.values()
    assert not any(isinstance(value, torch.optim.Optimizer) for value in held)
    assert strategy.model.labels == [0, 1]
