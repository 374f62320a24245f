"""The head is the layer that makes the logits; whoever registers another one last is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from continual import TaskMasks
from tests.continual.tiny_tasks import (
    CLASSES,
    FEATURES,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)


class HeadFirst(nn.Module):
    """Its layers are registered in another order than they are called in."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, CLASSES)
        self.a = nn.Linear(FEATURES, 20)
        self.b = nn.Linear(20, 16)

    def forward(self, x):
        return self.head(self.b(self.a(x).relu()).relu())


class Named(nn.Module):
    """Any network of named layers, and what it computes with them."""

    def __init__(self, compute, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.compute = compute

    def forward(self, x):
        return self.compute(self, x)


def body():
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU())


def attention(net, x):
    tokens = net.embed(x).unflatten(1, (4, 4))
    mixed, _ = net.attend(tokens, tokens, tokens, need_weights=False)
    return net.head((tokens + mixed).flatten(1))


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("isolation", ["hard", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_another_layer_registered_last_is_refused_with_the_right_roles(
    training, isolation, backend
):
    task = make_tasks(1)[0]
    config = make_config(backend=backend)
    model = TaskMasks(HeadFirst(), config, isolation=isolation).train(training)
    model.begin(0)
    roles = {"a": "input", "b": "hidden", "head": "output"}
    with pytest.raises(ValueError, match=r"^layer 'b': taken for the head[^\n]*$") as refused:
        model(task.train_x)
    assert str(refused.value).endswith(f"the logits come from 'head'; pass roles={roles}")
    told = TaskMasks(HeadFirst(), config, isolation=isolation, roles=roles)
    told.begin(0)
    told(task.train_x)
    assert "head.weight" not in {tensor.name for tensor in told._shared}


def test_in_avalanche_it_is_said_before_anything_is_trained():
    model = TaskMasks(HeadFirst(), make_config())
    with pytest.raises(ValueError, match=r"roles=\{"):
        make_strategy(model).train(make_benchmark(make_tasks(1)).train_stream, eval_streams=[])
    assert model.engine.steps == 0


NETWORKS = {
    "plain": lambda: make_mlp(),
    "softmax behind it": lambda: nn.Sequential(make_mlp(), nn.LogSoftmax(1)),
    "scaled, cut and written into": lambda: Named(
        lambda n, x: (2 * n.head(n.body(x)))[:, :2].clamp_(-1, 1),
        body=body(),
        head=nn.Linear(16, CLASSES),
    ),
    "features beside the logits": lambda: Named(
        lambda n, x: (n.head(n.body(x)), n.body(x)), body=body(), head=nn.Linear(16, CLASSES)
    ),
    "a residual": lambda: Named(
        lambda n, x: n.head(n.body(x) + n.more(n.body(x))),
        body=body(),
        more=nn.Linear(16, 16),
        head=nn.Linear(16, CLASSES),
    ),
    "a layer used twice": lambda: Named(
        lambda n, x: n.head(n.more(n.more(n.body(x)).relu())),
        body=body(),
        more=nn.Linear(16, 16),
        head=nn.Linear(16, CLASSES),
    ),
    "attention": lambda: Named(
        attention,
        embed=nn.Linear(FEATURES, 16),
        attend=nn.MultiheadAttention(4, 2, batch_first=True),
        head=nn.Linear(16, CLASSES),
    ),
    "a convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, FEATURES)), nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(40, CLASSES)
    ),
    "normalised": lambda: Named(
        lambda n, x: n.head(n.norm(n.body(x))),
        body=body(),
        norm=nn.BatchNorm1d(16),
        head=nn.Linear(16, CLASSES),
    ),
    "dropout": lambda: nn.Sequential(
        nn.Linear(FEATURES, 20), nn.Dropout(0.5), nn.Linear(20, CLASSES)
    ),
    "one layer": lambda: nn.Linear(FEATURES, CLASSES),
    "recomputed": lambda: Named(
        lambda n, x: torch.utils.checkpoint.checkpoint(
            lambda y: n.head(n.body(y)), x, use_reentrant=True
        ),
        body=body(),
        head=nn.Linear(16, CLASSES),
    ),
}


@pytest.mark.filterwarnings("ignore:Layers that stay masked")
@pytest.mark.filterwarnings("ignore:TaskMasks. training is not compiled")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_usual_networks_pass_and_are_left_as_they_are(name, backend):
    """State, random numbers and arithmetic of the first forward pass are those of any other."""
    task = make_tasks(1)[0]
    torch.manual_seed(0)
    config = make_config("static", sparsity=0.5, dense=("qkv",), backend=backend)
    if name != "attention":
        config = make_config("static", sparsity=0.5, backend=backend)
    model = TaskMasks(NETWORKS[name](), config)
    model.begin(0)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(1)
    inner = model.model(task.train_x)
    after = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(before)
    torch.manual_seed(1)
    outer = model(task.train_x)
    first = lambda out: out[0] if isinstance(out, tuple) else out  # noqa: E731
    assert torch.equal(first(inner), first(outer))
    assert all(torch.equal(after[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_logits_of_several_layers_are_warned_of_once():
    net = Named(
        lambda n, x: n.wide(x) + n.deep(n.body(x)),
        body=body(),
        wide=nn.Linear(FEATURES, CLASSES),
        deep=nn.Linear(16, CLASSES),
    )
    task = make_tasks(1)[0]
    model = TaskMasks(net, make_config())
    with pytest.warns(
        UserWarning, match=r"^layer 'deep': .* come from 'wide' and 'deep'; .*roles="
    ):
        model(task.train_x)
    model(task.train_x)
    told = TaskMasks(
        Named(
            lambda n, x: n.wide(x) + n.deep(n.body(x)),
            body=body(),
            wide=nn.Linear(FEATURES, CLASSES),
            deep=nn.Linear(16, CLASSES),
        ),
        make_config(),
        roles={"deep": "output"},
    )
    told(task.train_x)


def test_an_input_that_the_network_writes_into_is_left_alone():
    net = nn.Sequential(nn.ReLU(inplace=True), *make_mlp())
    model, x = TaskMasks(net, make_config()), make_tasks(1)[0].train_x
    model._trace(x)
    assert bool((x < 0).any())


def test_in_inference_mode_nothing_is_refused():
    with torch.inference_mode():
        x = make_tasks(1)[0].test_x
        assert TaskMasks(make_mlp(), make_config())(x).shape == (len(x), 3)
