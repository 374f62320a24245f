"""Which layer is the head, what stays frozen, and what one network sees of a mixed batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from continual import TaskMasks
from tests.continual.tasks.test_task_masks import learn
from tests.continual.tiny_tasks import CLASSES, FEATURES, make_config, make_mlp, make_tasks


class HeadFirst(nn.Module):
    """Its head is registered before the layers that feed it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, CLASSES)
        self.body = nn.Sequential(nn.Linear(FEATURES, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU())

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("isolation", ["hard", "none"])
def test_the_head_is_the_layer_whose_role_is_output(isolation):
    roles = {"head": "output", "body.0": "input", "body.2": "hidden"}
    model = TaskMasks(HeadFirst(), make_config(), isolation=isolation, roles=roles)
    assert [tensor.name for tensor in model._shared] == ["body.0.weight", "body.2.weight"]
    assert "head.bias" in {place.name for place in model._places}


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_what_the_caller_froze_stays_frozen_in_every_task(backend):
    """A pretrained normalisation layer, say."""
    net = nn.Sequential(
        nn.Linear(FEATURES, 20), nn.LayerNorm(20), nn.ReLU(), nn.Linear(20, CLASSES)
    )
    net[1].weight.requires_grad_(False).fill_(0.5)
    net[1].bias.requires_grad_(False)
    model = learn(TaskMasks(net, make_config(backend=backend)), make_tasks(2))
    for label in (0, 1):
        assert torch.equal(model.tasks[str(label)].named("1.weight"), torch.full((20,), 0.5))


def test_constant_weights_of_a_head_stay_constant_after_loading():
    """Of SupSup: a task that is resumed in its middle trains its scores and biases only."""
    config = make_config("edge_popup")
    model = learn(TaskMasks(make_mlp(), config), make_tasks(1))
    model.begin(1)
    fresh = TaskMasks(make_mlp(), config)
    fresh.load_state_dict(model.state_dict())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "tasks.1.own.4/weight" not in trained
    assert {name for name, p in fresh.named_parameters() if p.requires_grad} == trained


def test_without_isolation_a_mixed_batch_is_one_batch_of_the_shared_layers():
    """A task with a single sample in it is no error, and statistics are those of the batch."""
    net = nn.Sequential(
        nn.Linear(FEATURES, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, CLASSES)
    )
    model = learn(TaskMasks(net, make_config(), isolation="none"), make_tasks(2)).train()
    x, norm = make_tasks(1)[0].train_x[:5], net[1]
    norm.reset_running_stats()
    norm.momentum = 1.0
    expected = net[0](x).mean(0)
    model(x, torch.tensor([0, 1, 1, 1, 1]))
    torch.testing.assert_close(norm.running_mean, expected)


def test_without_isolation_an_earlier_head_reads_no_weight_outside_its_mask():
    model = learn(TaskMasks(make_mlp(), make_config("topkast"), isolation="none"), make_tasks(2))
    x = make_tasks(1)[0].test_x
    task, mask = model.tasks["0"], model.masks(0)["4.weight"]
    weight = task.named("4.weight")
    assert bool(weight[~mask].any())
    labels = torch.tensor([0, 1]).repeat_interleave(len(x))
    answers = model.eval()(torch.cat([x, x]), labels)
    expected = nn.functional.linear(model.model[:-1](x), weight * mask, task.named("4.bias"))
    torch.testing.assert_close(answers[: len(x)], expected, rtol=1e-5, atol=1e-5)
