"""Critics that run together train as critics that run one after the other."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.policies import ContinuousCritic

from dstrl import register
from dstrl.policies.networks import SparseCritic
from sparse_core.layers import branches

register()


def trained(algorithm, sparse):
    model = algorithm(
        "SparseMlpPolicy",
        "Pendulum-v1",
        learning_starts=20,
        batch_size=16,
        seed=3,
        policy_kwargs={"net_arch": [24, 24], "sparse": sparse},
    )
    model.learn(45)
    return model.policy.state_dict()


@pytest.mark.parametrize("backend", ["condensed", "masked"])
@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_runs_are_the_same_to_the_bit(monkeypatch, algorithm, backend):
    sparse = {"method": "rigl", "sparsity": 0.7, "update_every": 7, "backend": backend}
    seen = []

    def watch(networks, input, original=branches._together):
        found = original(networks, input)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(branches, "_together", watch)
    together = trained(algorithm, sparse)
    assert set(seen) == ({True} if backend == "condensed" else set())
    monkeypatch.setattr(SparseCritic, "forward", ContinuousCritic.forward)
    alone = trained(algorithm, sparse)
    assert together.keys() == alone.keys()
    for name, tensor in together.items():
        assert torch.equal(tensor, alone[name]), name
