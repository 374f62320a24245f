"""Copies that are averaged by hand, parameter by parameter, by code that knows of no topology."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from sparse_core import InputError, SparseConfig, condense, sparsify
from tests.sparse_core.networks import built, mlp, steps

BACKENDS = pytest.mark.parametrize("backend", ["masked", "condensed"])
DECAY = 0.8


@torch.no_grad()
def by_parameters(ema: nn.Module, net: nn.Module) -> None:
    for mine, theirs in zip(ema.parameters(), net.parameters(), strict=True):
        mine.mul_(DECAY).add_(theirs, alpha=1 - DECAY)


def by_data(ema: nn.Module, net: nn.Module) -> None:
    for mine, theirs in zip(ema.parameters(), net.parameters(), strict=True):
        mine.data.mul_(DECAY)
        torch.add(mine.data, theirs.data, alpha=1 - DECAY, out=mine.data)


@torch.no_grad()
def by_state(ema: nn.Module, net: nn.Module) -> None:
    for mine, theirs in zip(ema.state_dict().values(), net.state_dict().values(), strict=True):
        mine.copy_(DECAY * mine + (1 - DECAY) * theirs)


def run(backend="masked", **fields):
    fields = dict(method="rigl", sparsity=0.6, update_every=2, backend=backend) | fields
    return built(fields, (12, 18, 16, 4), lr=0.05)


def dense(net: nn.Module) -> dict[str, torch.Tensor]:
    weights = {t.name: t.values().reshape(t.shape).clone() for t in net.sparse_engine.tensors}
    biases = {k: v.detach().clone() for k, v in net.named_parameters() if k.endswith("bias")}
    return weights | biases


class Mean:
    """The mean of the dense weights."""

    def __init__(self, net: nn.Module) -> None:
        self.now = dense(net)

    def add(self, net: nn.Module) -> None:
        self.now = {k: DECAY * self.now[k] + (1 - DECAY) * v for k, v in dense(net).items()}

    def check(self, ema: nn.Module) -> None:
        true = mlp(12, 18, 16, 4)
        true.load_state_dict(self.now)
        x = torch.randn(5, 12)
        torch.testing.assert_close(ema(x), true(x))
        torch.testing.assert_close(ema.requires_grad_(False)(x), true(x))
        engine = ema.sparse_engine
        weights = [self.now[tensor.name] for tensor in engine.tensors]
        for tensor, weight in zip(engine.tensors, weights, strict=True):
            torch.testing.assert_close(tensor.values(), weight)
            assert not tensor.values()[~tensor.active()].any()
        used, total = sum(int((w != 0).sum()) for w in weights), sum(w.numel() for w in weights)
        assert engine.sparsity <= 1 - used / total


@pytest.mark.parametrize("average", [by_parameters, by_data, by_state])
@pytest.mark.parametrize("method", ["rigl", "set", "srigl", "granet", "static"])
def test_the_mean_of_masked_weights_is_computed_with(method, average):
    net, optimizer, engine = run(method=method, horizon=12)
    ema, mean = copy.deepcopy(net), Mean(net)
    for step in range(12):
        steps(net, optimizer, 1, start=step)
        average(ema, net)
        mean.add(net)
        if step % 5 == 4:
            mean.check(ema)
    mean.check(ema)
    assert (engine.updates > 3) == (method != "static")


@BACKENDS
def test_a_topology_that_stands_still_is_averaged_right_by_hand(backend):
    net, optimizer, _ = run(backend, method="static")
    ema, mean = copy.deepcopy(net), Mean(net)
    for step in range(6):
        steps(net, optimizer, 1, start=step)
        by_parameters(ema, net)
        mean.add(net)
    mean.check(ema)


WAYS = {
    "a copy": copy.deepcopy,
    "a file": lambda net: pickle.loads(pickle.dumps(net)),
    "no original": lambda net: net,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_average_by_hand_is_still_right_as(way):
    net, optimizer, _ = run()
    ema, mean = copy.deepcopy(net), Mean(net)
    for step in range(7):
        steps(net, optimizer, 1, start=step)
        by_parameters(ema, net)
        mean.add(net)
    if way == "no original":
        del net, optimizer
    mean.check(WAYS[way](ema))


@pytest.mark.parametrize("first", ["net", "ema"])
def test_copies_of_both_go_on_like_the_two(first):
    net, optimizer, _ = run()
    ema = copy.deepcopy(net)
    steps(net, optimizer, 3)
    by_parameters(ema, net)
    if first == "net":
        twin, new, again = copy.deepcopy((net, optimizer, ema))
    else:
        again, new, twin = copy.deepcopy((ema, optimizer, net))
    x = torch.randn(5, 12)
    for step in range(3, 8):
        for each, trained, average in ((net, optimizer, ema), (twin, new, again)):
            steps(each, trained, 1, start=step)
            by_parameters(average, each)
    assert torch.equal(ema(x), again(x))


def test_the_state_of_an_average_by_hand_goes_on():
    net, optimizer, _ = run()
    ema, mean = copy.deepcopy(net), Mean(net)
    for step in range(5):
        steps(net, optimizer, 1, start=step)
        by_parameters(ema, net)
        mean.add(net)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict(), ema.state_dict()))
    twin, new, _ = run()
    twin.load_state_dict(saved[0])
    new.load_state_dict(saved[1])
    again = copy.deepcopy(twin)
    again.load_state_dict(saved[2])
    mean.check(again)
    for step in range(5, 9):
        steps(twin, new, 1, start=step)
        by_parameters(again, twin)
        mean.add(twin)
    mean.check(again)


@pytest.mark.parametrize("average", [by_parameters, by_data])
@pytest.mark.parametrize("use", ["forward", "state", "weights", "export"])
def test_places_of_condensed_values_are_not_averaged_without_a_word(use, average):
    net, optimizer, _ = run("condensed")
    ema, mean = copy.deepcopy(net), Mean(net)
    steps(net, optimizer, 1)
    average(ema, net)
    mean.add(net)
    mean.check(ema)
    steps(net, optimizer, 1, start=1)
    mean.check(ema)
    average(ema, net)
    uses = {
        "forward": lambda: ema(torch.zeros(1, 12)),
        "state": ema.state_dict,
        "weights": lambda: ema.sparse_engine.tensors[0].values(),
        "export": lambda: condense(ema),
    }
    with pytest.raises(InputError) as caught:
        uses[use]()
    message = str(caught.value)
    assert message.startswith("layer '0.weight': this copy was averaged by hand")
    assert "AveragedModel" in message and "Engine.follow" in message and "\n" not in message
    with pytest.warns(UserWarning, match=r"layer '\d.weight': a copy of it was averaged by hand"):
        steps(net, optimizer, 2, start=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(net, optimizer, 2, start=4)
    with pytest.raises(InputError, match="averaged by hand"):
        ema(torch.zeros(1, 12))
    ema.load_state_dict(net.state_dict())
    x = torch.randn(5, 12)
    assert torch.equal(ema(x), net(x))


@pytest.mark.parametrize("method", ["topkast", "wsn"])
def test_values_of_inactive_weights_are_not_averaged_without_a_word(method):
    net, _, engine = run(method=method)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    engine.attach(optimizer)
    ema = copy.deepcopy(net)
    steps(net, optimizer, 6)
    ema(torch.zeros(1, 12))
    by_parameters(ema, net)
    with pytest.raises(InputError, match=r"layer '\d.weight': this copy was averaged by hand"):
        ema(torch.zeros(1, 12))


@BACKENDS
@pytest.mark.parametrize("method", ["rigl", "topkast"])
def test_a_copy_that_nobody_averages_is_left_alone(backend, method):
    """A teacher, the best network so far: it stands still while the original trains on."""
    if (backend, method) == ("condensed", "topkast"):
        with pytest.raises(InputError, match="backend='condensed': "):
            run(backend, method=method)
        return
    net, optimizer, _ = run(backend, method=method)
    steps(net, optimizer, 3)
    best = copy.deepcopy(net)
    x = torch.randn(5, 12)
    expected = best(x).detach()
    steps(net, optimizer, 5)
    assert torch.equal(best(x), expected)
    assert torch.equal(copy.deepcopy(best)(x), expected)
    torch.testing.assert_close(condense(best)(x), expected)
    assert best.sparse_engine.sparsity == net.sparse_engine.sparsity


@BACKENDS
@pytest.mark.parametrize("own", [False, True])
def test_a_copy_that_trains_itself_is_no_average(backend, own):
    net, optimizer, _ = run(backend)
    twin = copy.deepcopy(net)
    trained = twin.sparse_engine.optimizer
    if own:
        trained = torch.optim.SGD(twin.parameters(), lr=0.05)
    for step in range(8):
        steps(net, optimizer, 1, start=step)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if own else "error")
            steps(twin, trained, 1, start=step)
    x = torch.randn(5, 12)
    for tensor in twin.sparse_engine.tensors:
        assert tensor.count() == tensor.budget and not tensor.values()[~tensor.active()].any()
    if not own:
        assert torch.equal(twin(x), net(x))


def test_noise_on_a_copy_stays_masked():
    """Evolution strategies, and measures of flatness, perturb all parameters of a copy."""
    net, optimizer, _ = run()
    candidate = copy.deepcopy(net)
    steps(net, optimizer, 6)
    with torch.no_grad():
        for parameter in candidate.parameters():
            parameter.add_(torch.randn_like(parameter))
    expected = mlp(12, 18, 16, 4)
    expected.load_state_dict(dict(candidate.named_parameters()))
    for tensor in candidate.sparse_engine.tensors:
        assert tensor.count() == tensor.budget
        expected.get_parameter(tensor.name).data.mul_(tensor.mask)
    x = torch.randn(5, 12)
    torch.testing.assert_close(candidate(x), expected(x))


@BACKENDS
@pytest.mark.filterwarnings("ignore:.*averaged by hand")
def test_embeddings_are_watched_too(backend):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    config = SparseConfig(sparsity=0.5, update_every=1, embeddings=True, backend=backend)
    sparsify(net, config, optimizer)
    ema, tokens = copy.deepcopy(net), torch.arange(9)
    mean = {t.name: t.values().clone() for t in net.sparse_engine.tensors}
    for _ in range(3):
        optimizer.zero_grad()
        (net(tokens) - 1).pow(2).mean().backward()
        optimizer.step()
        by_parameters(ema, net)
        for tensor in net.sparse_engine.tensors:
            mean[tensor.name] = DECAY * mean[tensor.name] + (1 - DECAY) * tensor.values()
    if backend == "condensed":
        with pytest.raises(InputError, match=r"layer '0.weight': this copy was averaged by hand"):
            ema(tokens)
    else:
        torch.testing.assert_close(ema[0](tokens), mean["0.weight"])


@pytest.mark.parametrize("method", ["rigl", "topkast"])
def test_a_functional_call_of_a_copy_brings_weights_of_its_own(method):
    """They are no parameters, and no average of any."""
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    sparsify(net, SparseConfig(method=method, sparsity=0.5))
    twin, x = copy.deepcopy(net), torch.randn(4, 6)
    weight = torch.randn(8, 6)
    expected = torch.func.functional_call(net, {"0.weight": weight}, (x,))
    assert torch.equal(torch.func.functional_call(twin, {"0.weight": weight}, (x,)), expected)
