"""Compiled training against training that is not: the same weights, losses and moments."""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from continual import MaskIsolation, PackNet, TaskMasks
from continual.avalanche_compat import avalanche
from continual.runs.build import make_model
from continual.runs.data import TaskData
from continual.runs.spec import CLSpec
from continual.tasks.rules import SHARING_POLICIES
from sparse_core import optim
from sparse_core.layers.condensed import CondensedLinear
from tests.continual.tiny_tasks import (
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

OPTIMIZERS = {
    "adam": lambda p: optim.Adam(p, lr=0.02),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-2),
}
METHODS = {
    "rigl": make_config("rigl", backend="condensed", update_every=3),
    "srigl": make_config("srigl", backend="condensed", update_every=3, ablation_threshold=0.6),
    "groups": make_config("srigl", backend="condensed", update_every=3, group=4),
}


def model_of(config, compiled, network=make_mlp, **options):
    return TaskMasks(network(), config, compiled=compiled, **options)


def close(mine, theirs):
    return (mine - theirs).abs().max() <= 1e-6 * theirs.abs().max().clamp(min=1e-9)


def tensors_of(model, optimizer):
    """The network's parameters and the optimizer's state of them, by names."""
    found = {}
    for name, parameter in model.model.named_parameters():
        found[name] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            if torch.is_tensor(value):
                found[f"{name} {key}"] = value
    return found


def step_of(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def in_step(config, optimizer="adam", steps=8, network=make_mlp, **options):
    """Train two models, one compiled, each step from the same state, and compare what it does."""
    models = [model_of(config, compiled, network, **options) for compiled in (True, False)]
    optimizers = [OPTIMIZERS[optimizer](model.parameters()) for model in models]
    compiled = 0
    for label, task in enumerate(make_tasks(3)):
        for model, one in zip(models, optimizers, strict=True):
            model.train().begin(label)
            model.attach(one, steps)
        for step in range(steps):
            batch = (16, 16, 5, 1)[step % 4]
            part = slice(step % 32, step % 32 + batch)
            x, y = task.train_x[part], task.train_y[part]
            losses = [step_of(*pair, x, y) for pair in zip(models, optimizers, strict=True)]
            assert close(*losses)
            compiled += models[0].uncompiled is None
            ours, theirs = map(tensors_of, models, optimizers)
            assert ours.keys() == theirs.keys()
            for name, tensor in ours.items():
                assert close(tensor, theirs[name]), (label, step, name)
                theirs[name].copy_(tensor)
            masks = [model.masks(label) for model in models]
            assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
        for model in models:
            model.end()
    assert compiled == 3 * steps
    assert models[0].engine.updates == models[1].engine.updates
    return models


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [
        ("rigl", "adam"),
        ("groups", "adam"),
        ("srigl", "sgd"),
        pytest.param("srigl", "adam", marks=pytest.mark.slow),
        pytest.param("rigl", "sgd", marks=pytest.mark.slow),
        pytest.param("groups", "sgd", marks=pytest.mark.slow),
    ],
)
def test_iterations_agree_across_updates_and_tasks(method, optimizer):
    models = in_step(METHODS[method], optimizer)
    assert models[0].engine.updates > 0
    if method == "srigl":
        live = [tensor.layer.weight_live for tensor in models[0].engine.tensors]
        assert any(each is not None and not each.all() for each in live)
    assert models[1].uncompiled is None


def wide():
    """A network whose first layers' gradients are lent, of odd sizes."""
    torch.manual_seed(2)
    layers = nn.Linear(12, 601), nn.ReLU(), nn.Linear(601, 75), nn.Tanh(), nn.Linear(75, 3)
    return nn.Sequential(nn.Flatten(), *layers)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS)
def test_they_agree_from_two_hundred_states(method, optimizer):
    config = replace(METHODS[method], sparsity=0.7, distribution="uniform")
    in_step(config, optimizer, steps=70, network=wide)


@pytest.mark.parametrize("share", [policy for policy in SHARING_POLICIES if policy != "none"])
def test_they_agree_where_weights_of_earlier_tasks_are_read(share):
    models = in_step(METHODS["srigl"], "sgd", share=share)
    for label, task in enumerate(make_tasks(3)):
        assert torch.equal(*(model.eval()(task.test_x, label) for model in models))


def test_they_agree_without_isolation():
    in_step(METHODS["rigl"], isolation="none")


@pytest.mark.parametrize("share", SHARING_POLICIES)
def test_what_earlier_tasks_answer_stays_as_it_is_to_the_bit(share):
    model = model_of(METHODS["groups"], True, share=share)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    answers = []
    for label, task in enumerate(make_tasks(3)):
        model.train().begin(label)
        model.attach(optimizer, 8)
        for start in range(0, 32, 4):
            part = slice(start, start + 4)
            step_of(model, optimizer, task.train_x[part], task.train_y[part])
        assert model.uncompiled is None
        model.end()
        model.eval()
        for earlier, before in enumerate(answers):
            assert torch.equal(model(make_tasks(3)[earlier].test_x, earlier), before)
        answers.append(model(task.test_x, label).detach())


PLUGINS = {
    "none": list,
    "ewc": lambda: [avalanche.training.plugins.EWCPlugin(ewc_lambda=10.0)],
    "si": lambda: [avalanche.training.plugins.SynapticIntelligencePlugin(si_lambda=1.0)],
    "lwf": lambda: [avalanche.training.plugins.LwFPlugin(1.0, 2.0)],
    "replay": lambda: [avalanche.training.plugins.ReplayPlugin(mem_size=10)],
    "agem": lambda: [avalanche.training.plugins.AGEMPlugin(8, 8)],
}


def learnt(compiled, plugins, epochs=2):
    torch.manual_seed(0)
    model = model_of(METHODS["rigl"], compiled)
    strategy = make_strategy(model, "sgd", epochs=epochs, plugins=[*plugins(), MaskIsolation()])
    torch.manual_seed(1)
    for experience in make_benchmark(make_tasks(2)).train_stream:
        strategy.train(experience)
    return strategy


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # Avalanche's, of NumPy 2
@pytest.mark.parametrize("name", PLUGINS)
def test_avalanches_plugins_see_what_they_ever_saw(name):
    ours, theirs = (learnt(compiled, PLUGINS[name]) for compiled in (True, False))
    assert ours.model._passes is not None
    assert theirs.model._passes is None
    assert close(ours.loss.detach(), theirs.loss.detach())
    found, expected = ours.model.state_dict(), theirs.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(close(found[key].double(), expected[key].double()) for key in found)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_training_goes_on_compiled_or_not(before, after):
    x, y = make_tasks(1)[0].train_x, make_tasks(1)[0].train_y
    ends = []
    for saved in (False, True):
        model = model_of(METHODS["srigl"], before).train()
        optimizer = OPTIMIZERS["adam"](model.parameters())
        model.begin(0)
        model.attach(optimizer, 12)
        for _ in range(5):
            step_of(model, optimizer, x, y)
        if saved:
            model, optimizer = pickle.loads(pickle.dumps((model, optimizer)))
            model.attach(optimizer, 12)
            model.compiled = after
        for _ in range(5):
            step_of(model, optimizer, x, y)
        ends.append(tensors_of(model, optimizer))
    assert all(close(ends[1][name], ends[0][name]) for name in ends[0])


def test_a_copy_trains_by_itself():
    model = model_of(METHODS["rigl"], True).train()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    model.begin(0)
    model.attach(optimizer, 12)
    task = make_tasks(1)[0]
    step_of(model, optimizer, task.train_x, task.train_y)
    twin = copy.deepcopy(model)
    assert twin._passes is None
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    own = torch.optim.SGD(twin.parameters(), lr=0.1)
    twin.attach(own, 12)
    for _ in range(2):
        step_of(twin, own, task.train_x, task.train_y)
    assert twin._passes._network is twin.model
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def begun(network, config=METHODS["rigl"], **options):
    model = TaskMasks(network, config, **options).train()
    model.begin(0)
    return model


class Own(nn.Module):
    """A network with a forward pass of its own."""

    def __init__(self):
        super().__init__()
        self.layers = make_mlp()

    def forward(self, x):
        return self.layers(x)


def test_one_line_says_once_why_a_network_of_linear_layers_is_not_compiled():
    x = torch.randn(4, 12)
    model = begun(nn.Sequential(nn.Linear(12, 20), nn.Mish(), nn.Linear(20, 3)))
    with pytest.warns(UserWarning) as told:
        model(x), model(x)
    assert [str(one.message) for one in told] == [
        "TaskMasks: training is not compiled, since the network.1 is a Mish; compiled=False says "
        "nothing"
    ]
    assert model.uncompiled == "the network.1 is a Mish"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begun(nn.Sequential(nn.Linear(12, 20), nn.Mish(), nn.Linear(20, 3)), compiled=False)(x)
        masked = begun(make_mlp(), make_config("rigl", backend="masked"))
        masked(x)
        assert masked.uncompiled == "no layer is condensed"
        own = begun(Own())
        own(x)
        assert own.uncompiled == "the network is a Own, before any linear layer"
        image = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
        convolutional = begun(image)
        convolutional(torch.randn(4, 1, 4, 4))
        assert convolutional.uncompiled is not None


def test_a_run_and_the_named_strategies_can_turn_it_off():
    task = TaskData(torch.zeros(1, 64), torch.tensor([9]), torch.zeros(1, 64), torch.tensor([9]))
    for compiled in (True, False):
        assert make_model(CLSpec(compiled=compiled), task).compiled is compiled
        net = make_mlp()
        sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        assert PackNet(model=net, optimizer=sgd, compiled=compiled).model.compiled is compiled
    assert any(isinstance(m, CondensedLinear) for m in begun(make_mlp()).modules())
