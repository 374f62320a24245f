"""The tiny baseline: dense, and within the number of weights of the sparse networks."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC

import dstrl
from dstrl.policies.tiny import tiny_arch


def weights(model):
    engines = model.policy.sparse_engines.values()
    return sum(layer.active for engine in engines for layer in engine.layers())


def build(algorithm, sparse, **policy_kwargs):
    dstrl.register()
    env = "Pendulum-v1" if algorithm is SAC else "CartPole-v1"
    policy_kwargs |= {"sparse": sparse}
    return algorithm("SparseMlpPolicy", env, policy_kwargs=policy_kwargs, seed=1, device="cpu")


def test_the_widest_architecture_within_the_budget():
    def count(arch):
        return 10 * arch[0] + arch[0] * arch[1]

    assert tiny_arch([100, 50], count, 6000) == [100, 50]
    assert tiny_arch([100, 50], count, 5999) == [99, 49]
    assert tiny_arch([100, 50], count, 600) == [26, 13]
    assert count([26, 13]) == 598 <= 600 < count([27, 13]) == 621
    assert tiny_arch([100, 50], count, 11) == [1, 1]


@pytest.mark.parametrize("budget", [0, 10])
def test_a_budget_that_no_network_meets_is_refused(budget):
    with pytest.raises(ValueError, match=r"tiny=True: no network of the shape \[8\] has at most"):
        tiny_arch([8], lambda arch: 11 * arch[0], budget)


@pytest.mark.parametrize(
    ("algorithm", "arch"),
    [(PPO, None), (PPO, dict(pi=[64, 32], vf=[128])), (DQN, [64, 64]), (SAC, [64, 64])],
)
def test_a_tiny_policy_is_dense_and_has_almost_the_sparse_number_of_weights(algorithm, arch):
    arch = {} if arch is None else {"net_arch": arch}
    budget = weights(build(algorithm, dict(method="rigl", sparsity=0.8), **arch))
    model = build(algorithm, dict(method="rigl", sparsity=0.8, tiny=True), **arch)
    assert 0.85 * budget < weights(model) <= budget
    assert model.policy.sparse.actor.method == "dense"
    assert not any("mask" in name for name in model.policy.state_dict())


def test_looking_for_it_draws_nothing():
    tiny = build(PPO, dict(sparsity=0.8, tiny=True))
    drawn = torch.get_rng_state()
    same = build(PPO, dict(method="dense"), net_arch=tiny.policy.net_arch)
    assert torch.equal(drawn, torch.get_rng_state())
    for left, right in zip(tiny.policy.parameters(), same.policy.parameters(), strict=True):
        assert torch.equal(left, right)


def test_it_survives_saving(tmp_path):
    model = build(PPO, dict(sparsity=0.8, tiny=True))
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy")
    loaded = PPO.load(tmp_path / "model", device="cpu").policy
    alone = type(model.policy).load(tmp_path / "policy", device="cpu")
    for other in (loaded, alone):
        assert other.net_arch == model.policy.net_arch
        for left, right in zip(model.policy.parameters(), other.parameters(), strict=True):
            assert torch.equal(left, right)
