"""Parameters that do not train, beside Avalanche's regularisers, in either order of plugins."""

from __future__ import annotations

import pytest
import torch

from continual import MaskIsolation, SupSup, TaskMasks
from continual.avalanche_compat import avalanche
from sparse_core.config import SparseConfig
from tests.continual.tiny_tasks import (
    logits,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:avalanche")

plugins = avalanche.training.plugins
REGULARISERS = {
    "SI": lambda: plugins.SynapticIntelligencePlugin(1.0),
    "EWC": lambda: plugins.EWCPlugin(1.0),
    "MAS": lambda: plugins.MASPlugin(),
    "LwF": lambda: plugins.LwFPlugin(),
}


def frozen(what, backend="masked"):
    """Edge-popup's constant weights, a layer that the user froze, or one of its biases."""
    net = make_mlp()
    if what == "weights of a method":
        return TaskMasks(net, make_config("edge_popup"), share="reuse")
    if what == "layer":
        net[0].requires_grad_(False)
        return TaskMasks(net, make_config("rigl", dense=("input",), backend=backend))
    net[0].bias.requires_grad_(False)
    return TaskMasks(net, make_config("rigl", backend=backend))


def learn(strategy, tasks):
    """Train; finished tasks must stay to the bit, and so must what is frozen."""
    model, answers = strategy.model, {}
    for label, experience in enumerate(make_benchmark(tasks).train_stream):
        strategy.train(experience, eval_streams=[])
        answers[label] = logits(model, label, tasks[label])
        for earlier, answer in answers.items():
            assert torch.equal(logits(model, earlier, tasks[earlier]), answer)
    assert not any(p.requires_grad for task in model.tasks.values() for p in task.parameters())
    return model


@pytest.mark.parametrize("first", [True, False], ids=["plugin first", "masks first"])
@pytest.mark.parametrize("name", REGULARISERS)
@pytest.mark.parametrize(
    ("what", "backend"),
    [
        ("weights of a method", "masked"),
        ("layer", "masked"),
        ("layer", "condensed"),
        ("bias", "masked"),
        ("bias", "condensed"),
    ],
)
def test_regularisers_leave_what_is_frozen_alone(what, backend, name, first):
    model, tasks = frozen(what, backend), make_tasks()
    parts = [MaskIsolation(), REGULARISERS[name]()]
    learn(make_strategy(model, plugins=parts[::-1] if first else parts, epochs=2), tasks)
    if what != "weights of a method":
        for label in range(3):
            assert torch.equal(model._task(label).named("0.bias"), make_mlp()[0].bias)


def test_synaptic_intelligence_as_a_strategy():
    model = frozen("weights of a method")
    kind = avalanche.training.SynapticIntelligence
    learn(make_strategy(model, strategy=kind, si_lambda=1.0, epochs=2), make_tasks())
    assert model.labels == [0, 1, 2]


def test_a_named_strategy_with_synaptic_intelligence():
    net = make_mlp()
    strategy = SupSup(
        model=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        sparse=SparseConfig(sparsity=0.8),
        train_mb_size=16,
        plugins=[REGULARISERS["SI"]()],
        evaluator=plugins.EvaluationPlugin(loggers=[avalanche.logging.BaseLogger()]),
    )
    learn(strategy, make_tasks())
    assert strategy.model.labels == [0, 1, 2]


@pytest.mark.parametrize("order", ["MIR SI masks", "masks SI MIR", "SI masks MIR"])
@pytest.mark.parametrize("what", ["weights of a method", "bias"])
def test_mir_differentiates_by_frozen_parameters_and_nobody_else_does(what, order):
    """It does so with respect to every parameter; for its neighbours all stays frozen."""
    tasks = [
        type(task)(task.train_x, task.train_y + 3 * i, task.test_x, task.test_y + 3 * i)
        for i, task in enumerate(make_tasks())
    ]
    net = make_mlp(classes=9)
    if what == "bias":
        net[0].bias.requires_grad_(False)
    method = "rigl" if what == "bias" else "edge_popup"
    model = TaskMasks(net, make_config(method), share="reuse")
    parts = {
        "MIR": plugins.MIRPlugin(mem_size=60, subsample=20, batch_size_mem=8),
        "SI": REGULARISERS["SI"](),
        "masks": MaskIsolation(),
    }
    strategy = make_strategy(model, plugins=[parts[name] for name in order.split()], epochs=2)
    learn(strategy, tasks)
    assert parts["MIR"].replay_loader is not None
    names = [type(plugin).__name__ for plugin in strategy.plugins]
    assert (names.count("_Thaw"), names.count("_Freeze")) == (1, 1)
    if what == "bias":
        assert torch.equal(model._task(2).named("0.bias"), make_mlp(classes=9)[0].bias)
