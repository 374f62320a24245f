"""Baselines of continual reinforcement learning: how large, what is kept, what tasks can train."""

from __future__ import annotations

import dataclasses

import pytest

from dstrl.tasks.spec import CRLSpec
from dstrl.tasks.switching import policy_of
from dstrl.tasks.train import make_model, run
from sparse_core.config import SparseConfig

SPEC = CRLSpec(
    steps=64,
    n_envs=2,
    net_arch=(16, 16),
    eval_every=64,
    eval_episodes=2,
    alone=False,
    sparse=SparseConfig(method="rigl", sparsity=0.8, dense=("input",), update_every=4),
    hyper={"n_steps": 32, "n_epochs": 2, "batch_size": 32},
)
ACTOR, CRITIC = 4 * 16 + 16 * 16 + 16 * 2, 4 * 16 + 16 * 16 + 16


def weights(model) -> int:
    engines = policy_of(model).sparse_engines.values()
    return sum(layer.total for engine in engines for layer in engine.layers())


def built(**fields):
    return make_model(dataclasses.replace(SPEC, **fields).resolve())


def test_sizes_of_baselines_by_hand():
    assert weights(built(baseline="finetune")) == ACTOR + CRITIC == 688
    # Two dense input layers of 64, and a fifth of 560 weights of the rest.
    small = weights(built(baseline="independent"))
    assert 0.9 * 240 < small <= 240 and weights(built(baseline="tiny")) == small
    # A third of two input layers and two hidden ones, and both heads, of 48.
    assert 0.9 * (640 // 3 + 48) < weights(built(baseline="independent_total")) <= 640 // 3 + 48
    with pytest.raises(ValueError, match=r"net_arch=\[16, 16\]: no dense network of this shape"):
        built(baseline="tiny", sparse=SparseConfig(sparsity=0.99))


@pytest.fixture(scope="module")
def independent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("independent")
    return run(dataclasses.replace(SPEC, baseline="independent", alone=True), folder, _silent)


def _silent(done, numbers):
    pass


def test_tasks_apart_keep_what_they_have_learnt(independent):
    matrix = independent["matrix"]
    assert matrix[2][:2] == matrix[1] and matrix[1][0] == matrix[0][0]
    assert independent["forgetting"] == 0 and "capacity_used" not in independent
    assert independent["updates"] == {} and independent["sparsity"]["active"] == 0
    (each, *others) = independent["trained_weights"]
    assert others == [each, each] and each == sum(one["total"] for one in independent["layers"])
    assert "forward_transfer" not in independent


def test_networks_apart_begin_alike_and_share_nothing():
    model = built(baseline="independent")
    policy = policy_of(model)
    first = {name: p.detach().clone() for name, p in policy.named_parameters()}
    policy.begin_task(0)
    for parameter in policy.parameters():
        parameter.data.add_(1.0)
    policy.end_task()
    policy.begin_task(1)
    assert all((p == first[name]).all() for name, p in policy.named_parameters())
    policy.end_task()
    with policy.task(0):
        assert all((p == first[name] + 1).all() for name, p in policy.named_parameters())


@pytest.mark.parametrize("share", ["none", "reuse"])
def test_weights_that_isolated_tasks_train(share):
    model = built(share=share)
    policy = policy_of(model)
    taken = {}
    counts = []
    for label in range(2):
        policy.begin_task(label)
        policy.end_task()
        new = 0
        for name, mask in policy.task_masks(label).items():
            if ".2.weight" in name:
                new += int((mask & ~taken.get(name, mask & ~mask)).sum())
                taken[name] = mask | taken.get(name, mask)
        counts.append(new)
    heads = sum(
        layer.active
        for engine in policy.sparse_engines.values()
        for layer in engine.layers()
        if layer.role == "output"
    )
    assert policy.trained_weights() == [2 * 64 + heads + count for count in counts]
    assert (counts[0] > counts[1]) == (share == "reuse")


def test_one_trunk_trains_all_its_weights_in_every_task():
    policy = policy_of(built(baseline="finetune"))
    for label in range(2):
        policy.begin_task(label)
        policy.end_task()
    assert policy.trained_weights() == [688, 688]
