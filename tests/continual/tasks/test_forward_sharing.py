"""Sharing `forward`: reserved neurons are read as they are, and nothing new goes into them."""

from __future__ import annotations

import copy

import pytest
import torch

from continual import TaskMasks
from continual.avalanche_compat import avalanche
from continual.runs.spec import CLSpec
from continual.tasks.capacity import LayerRoom
from continual.tasks.isolation import lent, reserved
from tests.continual.tasks.test_isolation import check_isolation
from tests.continual.tasks.test_task_masks import learn
from tests.continual.tiny_tasks import logits, make_config, make_mlp, make_tasks


def made(method="set", reserve=0.1, **changes):
    return TaskMasks(make_mlp(), make_config(method, **changes), share="forward", reserve=reserve)


def learnt(method="set", **options):
    return learn(made(method, **options), make_tasks())


def neurons_of(model, label, tensor):
    return model._task(label).neurons.get(tensor.name, (tensor.rows,))


@pytest.mark.parametrize("method", ["static", "set", "rigl", "srigl"])
def test_each_task_reserves_neurons_of_its_own(method):
    model = learnt(method)
    for tensor, count in zip(model._shared, (2, 2), strict=True):  # a tenth of 20, of 16
        rows = [neurons_of(model, label, tensor) for label in range(3)]
        assert [int(row.sum()) for row in rows] == [count] * 3
        assert int(torch.stack(rows).sum(0).max()) == 1


def test_reserved_are_the_neurons_of_the_largest_incoming_weights():
    model = made("static")
    model.begin(0)
    tensor = model._shared[0]
    importance = (tensor.values().abs() * tensor.active()).sum(1)
    model.end()
    chosen = neurons_of(model, 0, tensor)
    assert float(importance[chosen].min()) >= float(importance[~chosen].max())


def test_a_smaller_last_group_is_reserved_by_the_importance_of_its_neurons():
    # Groups of 8, 8 and 4 of 20 neurons: the last four have the largest weights, and fewer of them.
    model = made("static", structure="constant_fan_in", group=8)
    model.begin(0)
    tensor = model._shared[0]
    tensor.write(torch.arange(1.0, 21).unsqueeze(1).expand(20, 12))
    model.end()
    assert neurons_of(model, 0, tensor).tolist() == [False] * 16 + [True] * 4


@pytest.mark.parametrize("method", ["static", "set", "rigl", "srigl"])
def test_no_own_weight_goes_into_a_reserved_neuron_and_masks_are_disjoint(method):
    model = learnt(method)
    for tensor in model._shared:
        masks = [model.masks(label)[tensor.name] for label in range(3)]
        assert int(torch.stack(masks).sum(0).max()) == 1
        for label in (1, 2):
            closed = reserved(tensor, [model._task(earlier) for earlier in range(label)])
            assert not bool(masks[label][closed].any())


@pytest.mark.parametrize("method", ["static", "set", "rigl"])
def test_budgets_are_exact(method):
    model = learnt(method)
    for label in range(3):
        for tensor in model.engine.tensors:
            assert int(model.masks(label)[tensor.name].sum()) == tensor.budget


def test_constant_fan_in_is_spread_over_the_open_neurons():
    model = learnt("srigl", ablation=False)
    for tensor in model._shared:
        for label in range(3):
            fan_in = set(model.masks(label)[tensor.name].sum(1).tolist())
            rows = tensor.rows - 2 * label
            assert fan_in - {0} == {tensor.budget // rows}
            assert int((model.masks(label)[tensor.name].sum(1) > 0).sum()) == rows


def test_a_reserved_neuron_says_the_same_in_every_later_task():
    """In the first hidden layer, whose inputs are the data, its output is the same to the bit."""
    tasks = make_tasks()
    model = learnt("rigl")
    tensor = model._shared[0]
    chosen = neurons_of(model, 0, tensor)
    hidden = {}
    for label in range(3):
        seen = []
        handle = model.model[0].register_forward_hook(lambda m, i, out: seen.append(out))  # noqa: B023
        logits(model, label, tasks[0])
        handle.remove()
        hidden[label] = seen[0]
    assert torch.equal(hidden[0][:, chosen], hidden[2][:, chosen])
    assert not torch.equal(hidden[0][:, ~chosen], hidden[2][:, ~chosen])


def test_what_is_lent_is_what_made_the_reserved_neurons():
    model = learnt("set")
    for tensor in model._shared:
        tasks = [model._task(label) for label in range(3)]
        expected = torch.zeros(tensor.shape, dtype=torch.bool)
        for label in range(3):
            rows = neurons_of(model, label, tensor)
            expected[rows] = model.masks(label)[tensor.name][rows]
        assert torch.equal(lent(tensor, tasks, "forward"), expected)
        assert torch.equal(tensor.companion("lent"), expected)


def test_lent_weights_and_biases_get_no_gradient():
    task, model = make_tasks()[0], learnt("set")
    model.begin(3)
    model.train()
    model.zero_grad()
    model(task.train_x).square().sum().backward()
    for tensor in model._shared:
        read, rows = tensor.companion("lent"), tensor.companion("reserved")
        assert not bool(tensor.weight.grad[read].any()) and bool(tensor.weight.grad.any())
        assert not bool(tensor.bias.grad[rows].any()) and bool(tensor.bias.grad.any())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(
    ("name", "options"), [("Replay", {"mem_size": 20}), ("EWC", {"ewc_lambda": 1.0})]
)
def test_replay_and_ewc_on_top_change_no_bit(name, options, optimizer):
    strategy = getattr(avalanche.training, name)
    check_isolation(made("rigl"), make_tasks(), optimizer, strategy=strategy, **options)


def test_saved_and_loaded():
    tasks, model = make_tasks(), learnt("srigl", group=2)
    fresh = made("srigl", group=2)
    fresh.load_state_dict(model.state_dict())
    assert fresh.capacity() == model.capacity()
    for label, task in enumerate(tasks):
        assert torch.equal(logits(model, label, task), logits(fresh, label, task))
    for one in (model, fresh):
        one.begin(3)
        one.end()
    assert torch.equal(logits(model, 3, tasks[0]), logits(fresh, 3, tasks[0]))


@pytest.mark.parametrize("method", ["static", "srigl"])
@pytest.mark.parametrize("sparsity", [0.6, 0.8, 0.9])
def test_room_is_a_promise_that_is_kept(method, sparsity):
    model = made(method, sparsity=sparsity, ablation=False)
    room = model.room()
    assert room == min(LayerRoom.of(tensor).room(model.reserve) for tensor in model._shared) >= 1
    for label in range(room):
        model.begin(label)
        model.end()
    capacity = model.capacity()
    assert [layer.reserved for layer in capacity] == [2 * room] * 2
    with pytest.raises(ValueError, match=r"task \d+ does not fit: layer '\d.weight' is full"):
        for label in range(room, 30):
            before = copy.deepcopy(model.state_dict())
            model.begin(label)
            model.end()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_what_it_cannot_do_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"reserve=1: must be a number in \[0, 1\)"):
        made(reserve=1)
    with pytest.raises(ValueError, match=r"reserve=-0.1: must be a number in \[0, 1\)"):
        CLSpec(reserve=-0.1)
    assert CLSpec(reserve=0.3).canonical() == CLSpec().canonical()
