"""Averages of sparse networks are the means of their dense weights, by every usual recipe."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import swa_utils
from torch.optim.swa_utils import AveragedModel, update_bn

from sparse_core import InputError, SparseConfig, condense, sparsify
from sparse_core.layers.masked import Masked
from sparse_core.networks.residual import resnet
from tests.sparse_core.networks import built, mlp, steps
from tests.squares import squares

BACKENDS = pytest.mark.parametrize("backend", ["masked", "condensed"])

RULES: dict[str, dict[str, Any]] = {
    "stochastic": {},
    "stochastic, one by one": dict(avg_fn=swa_utils.get_swa_avg_fn()),
    "exponential": dict(multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.75)),
    "exponential, one by one": dict(avg_fn=swa_utils.get_ema_avg_fn(0.75)),
}
METHODS: dict[str, dict[str, Any]] = {
    "rigl": dict(method="rigl"),
    "groups": dict(method="srigl", group=2, ablation_threshold=0.9),
    "granet": dict(method="granet", horizon=9),
    "momentum": dict(method="snfs"),
    "topkast": dict(method="topkast"),
    "sr_ste": dict(method="sr_ste", structure="1:4", sparsity=0.75),
    "edge_popup": dict(method="edge_popup"),
    "wsn": dict(method="wsn"),
}
MASKED_ONLY = ("momentum", "topkast", "sr_ste", "edge_popup", "wsn")


class ByHand:
    """The mean of dense weights, and of all that is no sparse weight, as the rule says."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.mean: dict[str, torch.Tensor] = {}
        self.number = 0

    def add(self, net: nn.Module) -> None:
        now = dense_weights(net)
        share = 0.25 if self.rule.startswith("exponential") else 1 / (self.number + 1)
        self.mean = {k: torch.lerp(self.mean.get(k, v), v, share) for k, v in now.items()}
        self.number += 1


def dense_weights(net: nn.Module) -> dict[str, torch.Tensor]:
    weights = {
        tensor.name: (tensor.values() * tensor.active()).reshape(tensor.shape).clone()
        for tensor in net.sparse_engine.tensors
    }
    named = net.named_parameters()
    others = {k.replace("in_proj.bias", "in_proj_bias"): v.detach().clone() for k, v in named}
    left_out = ("weight", "values", "scores")
    return weights | {key: v for key, v in others.items() if not key.endswith(left_out)}


def runs(backend: str, method: str, **fields: Any):
    fields = dict(sparsity=0.6, update_every=1, backend=backend) | METHODS[method] | fields
    return built(fields, (12, 18, 16, 4), lr=0.05)


@pytest.mark.parametrize(
    ("backend", "method", "rule", "use_buffers"),
    squares(["masked", "condensed"], METHODS, RULES, [False, True]),
)
def test_an_average_is_the_mean_of_the_dense_weights(backend, method, rule, use_buffers):
    if backend == "condensed" and method in MASKED_ONLY:
        with pytest.raises(InputError, match="backend='condensed': "):
            runs(backend, method)
        return
    net, optimizer, engine = runs(backend, method)
    averaged = AveragedModel(net, use_buffers=use_buffers, **RULES[rule])
    expected = ByHand(rule)
    for step in range(7):
        steps(net, optimizer, 1, start=step)
        averaged.update_parameters(net)
        expected.add(net)
        found = dict(averaged.module.named_parameters())
        assert found.keys() == expected.mean.keys()
        for name, mean in expected.mean.items():
            torch.testing.assert_close(found[name], mean, rtol=1e-5, atol=1e-7)
        assert averaged.module.sparse_engine.steps == engine.steps == step + 1
    dense = mlp(12, 18, 16, 4)
    dense.load_state_dict(expected.mean)
    x = torch.randn(5, 12)
    torch.testing.assert_close(averaged(x), dense(x))
    used = [
        int(((expected.mean[t.name].reshape(t.rows, -1) != 0) | t.active()).sum())
        for t in engine.tensors
    ]
    total = sum(tensor.numel for tensor in engine.tensors)
    assert averaged.module.sparse_engine.sparsity == 1 - sum(used) / total <= engine.sparsity
    for layer in averaged.modules():
        if isinstance(layer, Masked):
            assert set(layer.weight_mask.unique().tolist()) <= {0.0, 1.0}
            assert not layer.weight[layer.weight_mask == 0].any()


class Mixed(nn.Module):
    """A layer of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Embedding(9, 8, padding_idx=0)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8)
        self.attend = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(self.look(tokens).transpose(1, 2)))
        return self.head(self.attend(x.transpose(1, 2))).mean(1)


@pytest.mark.filterwarnings("ignore:Layers that stay masked")
@pytest.mark.parametrize("use_buffers", [False, True])
@BACKENDS
def test_layers_of_all_kinds_and_statistics_of_batches(backend, use_buffers):
    torch.manual_seed(0)
    net = Mixed()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    fields = dict(sparsity=0.6, update_every=1, embeddings=True, backend=backend)
    engine = sparsify(net, SparseConfig(**fields), optimizer)
    averaged = AveragedModel(net, multi_avg_fn=RULES["exponential"]["multi_avg_fn"])
    averaged.use_buffers = use_buffers
    expected, statistics = ByHand("exponential"), None
    tokens = torch.randint(9, (6, 5))
    for _ in range(5):
        optimizer.zero_grad()
        (net(tokens) - 0.5).pow(2).mean().backward()
        optimizer.step()
        averaged.update_parameters(net)
        expected.add(net)
        now = net.norm.running_mean.clone()
        statistics = now if statistics is None else statistics.lerp(now, 0.25)
    assert engine.updates == 5
    found = averaged.module.norm.running_mean
    torch.testing.assert_close(found, statistics if use_buffers else net.norm.running_mean)
    dense = Mixed()
    dense.load_state_dict(averaged.module.state_dict() | expected.mean, strict=False)
    for name, mean in expected.mean.items():
        torch.testing.assert_close(averaged.module.get_parameter(name), mean)
    for part in (dense, averaged):
        update_bn([tokens, tokens.flip(1)], part)
    torch.testing.assert_close(averaged(tokens), dense(tokens))
    with torch.no_grad():
        inferred = averaged.eval()(tokens)
    torch.testing.assert_close(inferred, averaged(tokens), rtol=1e-4, atol=1e-5)


@BACKENDS
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copy", "pickle"]
)
def test_an_average_goes_on_to_the_bit_after_a_copy(backend, copied):
    net, optimizer, _ = runs(backend, "rigl")
    averaged = AveragedModel(net, multi_avg_fn=swa_multi)
    for pair in ("both", "network first"):
        steps(net, optimizer, 3)
        averaged.update_parameters(net)
        both = (net, averaged) if pair == "both" else (averaged, net)
        twins = copied(both)
        twin, again = twins if pair == "both" else twins[::-1]
        for each, mean in ((net, averaged), (twin, again)):
            steps(each, each.sparse_engine.optimizer, 3, start=3)
            mean.update_parameters(each)
        same(again.state_dict(), averaged.state_dict())
        assert again.module.sparse_engine.sparsity == averaged.module.sparse_engine.sparsity


def swa_multi(averaged, current, number):
    swa_utils.get_swa_multi_avg_fn()(averaged, current, number)


def same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@BACKENDS
def test_an_average_goes_on_to_the_bit_from_its_state(backend):
    net, optimizer, _ = runs(backend, "rigl")
    averaged = AveragedModel(net)
    for step in range(3):
        steps(net, optimizer, 1, start=step)
        averaged.update_parameters(net)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), averaged.state_dict()))
    twin, new, _ = runs(backend, "rigl")
    again = AveragedModel(twin)
    for part, state in zip((twin, new, again), saved, strict=True):
        part.load_state_dict(state)
    assert again.module.sparse_engine.steps == 3
    x = torch.randn(4, 12)
    assert torch.equal(again(x), averaged(x))
    for each, trained, mean in ((net, optimizer, averaged), (twin, new, again)):
        for step in range(3, 6):
            steps(each, trained, 1, start=step)
            mean.update_parameters(each)
    same(again.state_dict(), averaged.state_dict())
    assert torch.equal(again(x), averaged(x))


@BACKENDS
def test_the_state_of_an_average_is_that_of_a_dense_network(backend):
    net, optimizer, engine = runs(backend, "rigl")
    averaged = AveragedModel(net)
    for step in range(4):
        steps(net, optimizer, 1, start=step)
        averaged.update_parameters(net)
    state, dense = averaged.module.state_dict(), mlp(12, 18, 16, 4)
    assert set(state) - set(dense.state_dict()) == {"sparse_clock"}
    dense.load_state_dict({key: state[key] for key in dense.state_dict()})
    x = torch.randn(5, 12)
    torch.testing.assert_close(averaged(x), dense(x))
    masks = [tensor.active().clone() for tensor in engine.tensors]
    assert net.load_state_dict(state, strict=False).unexpected_keys == []
    for tensor, mask in zip(engine.tensors, masks, strict=True):
        assert torch.equal(tensor.active(), mask)
        assert torch.equal(tensor.values(), dense.get_parameter(tensor.name) * mask)
    other = AveragedModel(net).module
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(x), net(x))


@BACKENDS
def test_an_average_is_condensed_saved_and_trained_like_any_network(backend):
    net, optimizer, _ = runs(backend, "rigl", sparsity=0.9)
    averaged = AveragedModel(net)
    for step in range(3):
        steps(net, optimizer, 1, start=step)
        averaged.update_parameters(net)
    x = torch.randn(5, 12)
    torch.testing.assert_close(condense(averaged)(x), averaged(x))
    engine = averaged.module.sparse_engine
    assert engine.optimizer is None and engine.updater is None
    engine.attach(torch.optim.Adam(averaged.parameters(), lr=0.1))
    before = engine.sparsity
    steps(averaged, engine.optimizer, 3)
    assert engine.sparsity == before and engine.updates == 3
    assert all(not t.values()[~t.active()].any() for t in engine.tensors)


@BACKENDS
def test_a_part_of_a_network_and_a_class_of_ones_own(backend):
    class Late(AveragedModel):
        def update_parameters(self, model):
            super().update_parameters(model)
            self.told = True

    net, optimizer, engine = runs(backend, "rigl")
    part = AveragedModel(nn.Sequential(*net[:3]), use_buffers=True)
    late = Late(net)
    expected = ByHand("stochastic")
    for step in range(4):
        steps(net, optimizer, 1, start=step)
        part.update_parameters(nn.Sequential(*net[:3]))
        late.update_parameters(net)
        expected.add(net)
    assert late.told and type(late) is Late
    for tensor in engine.tensors:
        torch.testing.assert_close(
            late.module.get_parameter(tensor.name), expected.mean[tensor.name]
        )
    torch.testing.assert_close(part.module[2].weight, expected.mean["2.weight"])


@BACKENDS
def test_a_network_with_a_target_that_stands_still(backend):
    """The target is told of its update before the average looks at it."""
    net, optimizer, engine = runs(backend, "rigl")
    target = mlp(12, 18, 16, 4)
    engine.follow(target, lagging=True)
    both = nn.ModuleDict({"net": net, "target": target})
    averaged = AveragedModel(both)
    steps(net, optimizer, 3)
    with torch.no_grad():
        for own, theirs in zip(target.parameters(), net.parameters(), strict=True):
            own.copy_(theirs)
    averaged.update_parameters(both)
    x = torch.randn(5, 12)
    torch.testing.assert_close(averaged.module["target"](x), net(x))
    torch.testing.assert_close(averaged.module["net"](x), net(x))


def vit() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    patches = nn.Conv2d(3, 8, 4, 4), nn.Flatten(2)
    return nn.Sequential(*patches, encoder, nn.Flatten(), nn.Linear(64, 3))


IMAGES = {"resnet": (lambda: resnet(4, 2, 1, 3), (8, 3, 8, 8)), "vit": (vit, (8, 3, 8, 16))}


@pytest.mark.filterwarnings("ignore:Layers that stay masked")
@pytest.mark.parametrize("name", IMAGES)
def test_averages_of_networks_for_images_are_those_of_masked_ones(name):
    make, shape = IMAGES[name]
    averages = []
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = make()
        optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
        config = SparseConfig(method="rigl", sparsity=0.5, update_every=2, backend=backend)
        sparsify(net, config, optimizer)
        average = AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.8))
        for step in range(4):
            torch.manual_seed(step)
            optimizer.zero_grad()
            net(torch.randn(shape)).square().mean().backward()
            optimizer.step()
            average.update_parameters(net)
        averages.append(average)
    x = torch.randn(shape)
    for mine, theirs in zip(*(one.module.state_dict().items() for one in averages), strict=True):
        assert mine[0] == theirs[0]
        torch.testing.assert_close(mine[1], theirs[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(averages[0](x), averages[1](x), rtol=1e-4, atol=1e-4)
