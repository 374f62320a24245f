"""Behaviour cloning: a loss of the actor alone, through the policy's optimizer or one's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3 import PPO

from dstrl import SparseActorCriticPolicy


def built(**sparse: Any) -> PPO:
    sparse = dict(sparsity=0.8, distribution="uniform", update_every=5) | sparse
    return PPO(
        SparseActorCriticPolicy,
        "CartPole-v1",
        n_steps=32,
        batch_size=16,
        n_epochs=2,
        policy_kwargs=dict(net_arch=[32, 32], sparse=sparse),
        seed=0,
        device="cpu",
    )


def clone(policy: Any, optimizer: torch.optim.Optimizer, steps: int = 20) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        observations = torch.randn(64, 4, generator=generator)
        actions = (observations[:, 0] > 0).long()
        _, likelihood, _ = policy.evaluate_actions(observations, actions)
        optimizer.zero_grad()
        (-likelihood.mean()).backward()
        optimizer.step()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("method", ["rigl", "srigl", "set"])
def test_through_the_policys_optimizer_the_value_net_keeps_its_topology(method, backend, split):
    apart = dict(actor_sparsity=0.8, critic_sparsity=0.7) if split else {}
    model = built(method=method, backend=backend, **apart)
    engines = model.policy.sparse_engines
    tensors = [t for engine in engines.values() for t in engine.tensors]
    critic = engines["critic"].tensors if split else [t for t in tensors if "value" in t.name]
    assert 0 < len(critic) < len(tensors)
    before = {t: (t.active(), t.count()) for t in tensors}
    if method == "set":
        clone(model.policy, model.policy.optimizer)
    else:
        with pytest.warns(UserWarning, match=r"layer '.*': no gradient") as told:
            clone(model.policy, model.policy.optimizer)
        assert len(told) == sum(not tensor.full for tensor in critic)
    for tensor, (mask, count) in before.items():
        kept = tensor.full or (tensor in critic and method != "set")
        assert torch.equal(tensor.active(), mask) == kept
        assert method == "srigl" or tensor.count() == count
    assert {engine.updates for engine in engines.values()} == {4}
    model.learn(64)
    if method != "set":
        assert not all(torch.equal(t.active(), before[t][0]) for t in critic)
