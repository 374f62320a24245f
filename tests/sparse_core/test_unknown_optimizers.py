"""An engine whose weights are trained by an optimizer that it does not know says so, once."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sparse_core import SparseConfig, sparsify, unknown_optimizers
from tests.sparse_core.networks import built, mlp, moments, steps

RIGL = dict(method="rigl", sparsity=0.5, update_every=2)
STRANGE = r"SGD holds the sparse weight '0.weight' of a \w*Sequential, whose engine is attached to "


def sgd(net: nn.Module, **fields: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.05, **fields)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_with_a_new_optimizer_says_what_to_do_and_that_helps(copier, backend):
    net, optimizer, engine = built(RIGL | dict(backend=backend))
    steps(net, optimizer, 3)
    twin = copier(net)
    new = sgd(twin)
    with pytest.warns(UserWarning, match=STRANGE + "another optimizer.*attach") as told:
        steps(twin, new, 4)
    assert len(told) == 1 and twin.sparse_engine.steps == 3
    twin.sparse_engine.attach(new)
    steps(twin, new, 4)
    assert twin.sparse_engine.updates == 3 and engine.steps == 3


def test_a_copy_of_network_and_optimizer_together_is_exact_and_silent():
    net, optimizer, _ = built(RIGL)
    steps(net, optimizer, 3)
    twin, its = copy.deepcopy((net, optimizer))
    steps(net, optimizer, 4, start=3)
    steps(twin, its, 4, start=3)
    assert all(map(torch.equal, net.state_dict().values(), twin.state_dict().values()))
    tensors = zip(net.sparse_engine.tensors, twin.sparse_engine.tensors, strict=True)
    for one, other in tensors:
        assert all(map(torch.equal, moments(optimizer, one), moments(its, other)))


def test_each_copy_is_told_on_its_own():
    net, _, _ = built(RIGL)
    for _ in range(2):
        twin = copy.deepcopy(net)
        with pytest.warns(UserWarning, match=STRANGE):
            steps(twin, sgd(twin), 1)


def test_a_second_optimizer_that_takes_turns_with_the_first():
    net, optimizer, engine = built(RIGL)
    second = sgd(net)
    with pytest.warns(UserWarning, match=STRANGE) as told:
        for step in range(4):
            steps(net, optimizer, 1, start=step)
            steps(net, second, 1, start=step)
    assert len(told) == 1 and engine.steps == 4


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_an_engine_that_was_never_attached(backend):
    net = mlp(12, 16, 4)
    engine = sparsify(net, SparseConfig(**RIGL, backend=backend))
    with pytest.warns(UserWarning, match=STRANGE + "no optimizer"):
        steps(net, sgd(net), 4)
    assert engine.steps == 0


@pytest.mark.parametrize("method", ["static", "rigl"])
def test_an_optimizer_of_dense_weights_that_condensed_ones_replaced(method):
    net = mlp(12, 16, 4)
    optimizer = sgd(net)
    engine = sparsify(net, SparseConfig(method=method, backend="condensed"))
    with pytest.warns(UserWarning, match="condensed weights have replaced.*call .*attach"):
        steps(net, optimizer, 1)
    engine.attach(optimizer)
    before = net[0].values.clone()
    steps(net, optimizer, 1)
    assert not torch.equal(net[0].values, before)


def test_the_old_optimizer_after_another_was_attached():
    net, old, engine = built(RIGL)
    steps(net, old, 1)
    engine.attach(sgd(net))
    with pytest.warns(UserWarning, match="Adam holds the sparse weight '0.weight'"):
        steps(net, old, 1)


def test_parameters_that_an_optimizer_gets_later_are_seen():
    net, other = mlp(12, 16, 4), nn.Linear(12, 4)
    sparsify(net, SparseConfig(**RIGL))
    optimizer = sgd(other)
    steps(other, optimizer, 2)
    optimizer.add_param_group({"params": list(net.parameters())})
    with pytest.warns(UserWarning, match=STRANGE):
        steps(net, optimizer, 1)
    optimizer = sgd(other)
    net = mlp(12, 16, 4)
    steps(other, optimizer, 2)
    sparsify(net, SparseConfig(**RIGL))
    optimizer.param_groups[0]["params"] = list(net.parameters())[:2]
    with pytest.warns(UserWarning, match=STRANGE):
        steps(net, optimizer, 1)


class Sharpness(torch.optim.Optimizer):
    """An optimizer around another one, as in sharpness-aware minimisation."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.inner = inner

    def step(self, closure: Any = None) -> None:
        self.inner.step()


@pytest.mark.parametrize("known", ["inner", "outer"])
def test_one_optimizer_inside_another_is_known(known):
    net = mlp(12, 16, 4)
    inner = sgd(net)
    outer = Sharpness(inner)
    engine = sparsify(net, SparseConfig(**RIGL), dict(inner=inner, outer=outer)[known])
    steps(net, outer, 4)
    assert engine.updates == 2


def test_what_is_no_step_of_an_unknown_optimizer_is_silent():
    net, optimizer, engine = built(RIGL)
    average, twin, target = AveragedModel(net), copy.deepcopy(net), mlp(12, 16, 16, 4)
    engine.follow(target)
    other = nn.Linear(16, 2)
    both = torch.optim.SGD([*other.parameters(), net[2].weight], lr=0.1)
    for step in range(4):
        steps(net, optimizer, 1, start=step)
        average.update_parameters(net)
        with torch.no_grad():
            for one, its in zip(target.parameters(), net.parameters(), strict=True):
                one.lerp_(its, 0.1)
        both.zero_grad()
        other(torch.randn(4, 16)).sum().backward()
        both.step()
    twin.load_state_dict(net.state_dict())
    first = next(iter(net.parameters()))
    (step,) = torch.autograd.grad(net(torch.randn(4, 12)).sum(), first)
    first.data -= 0.1 * step


def test_a_topology_that_never_moves_or_was_told_to_stand_still_warns_of_none():
    for method in ("static", "dense"):
        net = mlp(12, 16, 4)
        sparsify(net, SparseConfig(method=method))
        steps(net, sgd(net), 2)
    net, _, engine = built(RIGL)
    engine.detach()
    steps(net, sgd(net), 2)
    twin = copy.deepcopy(net)
    steps(twin, sgd(twin), 2)


def test_optimizers_that_train_too_are_known():
    net, optimizer, engine = built(RIGL)
    second = sgd(net)
    engine.attach(optimizer, second)
    steps(net, second, 2)
    steps(net, optimizer, 2)


def test_nothing_is_kept_alive():
    net, optimizer, engine = built(RIGL)
    unknown = sgd(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps(net, unknown, 2)
    gone = [weakref.ref(each) for each in (net, optimizer, engine, unknown)]
    del net, optimizer, engine, unknown
    gc.collect()
    assert not any(ref() for ref in gone)
    assert isinstance(unknown_optimizers._engines, weakref.WeakSet)


def test_each_optimizer_is_looked_at_once(monkeypatch):
    """What a step costs does not depend on how many weights there are."""
    net, optimizer, engine = built(RIGL)
    dense = nn.Linear(12, 4)
    its = sgd(dense)
    seen: list[torch.optim.Optimizer] = []
    look = unknown_optimizers._is_unknown

    def counted(one: torch.optim.Optimizer, asked: Any) -> bool:
        if asked is engine and one in (optimizer, its):
            seen.append(one)
        return look(one, asked)

    monkeypatch.setattr(unknown_optimizers, "_is_unknown", counted)
    for step in range(5):
        steps(net, optimizer, 1, start=step)
        steps(dense, its, 1, start=step)
    assert len(seen) == 2 and seen[0] is optimizer and seen[1] is its


def test_a_step_that_fails_says_nothing_later():
    net, _, _ = built(RIGL)
    twin = copy.deepcopy(net)
    new = sgd(twin)

    def closure() -> Tensor:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        new.step(closure)
    twin.sparse_engine.attach(new)
    steps(twin, new, 2)
