"""The optimizers of sparse policies: kernels unless the user chose a class."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC

import dstrl
from dstrl.policies.devices import leave_cpu
from sparse_core import optim

ENVS = {PPO: "CartPole-v1", DQN: "CartPole-v1", SAC: "Pendulum-v1"}


def optimizers(algorithm, **kwargs):
    dstrl.register()
    kwargs |= dict(net_arch=[16, 16], sparse=dict(sparsity=0.5, backend="masked"))
    model = algorithm("SparseMlpPolicy", ENVS[algorithm], policy_kwargs=kwargs, device="cpu")
    return model.policy, [e.optimizer for e in model.policy.sparse_engines.values()]


@pytest.mark.parametrize("algorithm", ENVS)
def test_torchs_adam_has_kernels_and_its_options(algorithm):
    policy, found = optimizers(algorithm)
    assert {type(optimizer) for optimizer in found} == {optim.Adam}
    assert {o.param_groups[0]["eps"] for o in found} == {1e-5 if algorithm is PPO else 1e-8}
    leave_cpu(policy, torch.device("meta"))
    assert {type(optimizer) for optimizer in found} == {torch.optim.Adam}


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, optim.AdamW])
def test_a_class_that_the_user_chose_stays(kind):
    _, found = optimizers(SAC, optimizer_class=kind)
    assert {type(optimizer) for optimizer in found} == {kind}
