"""Residual networks by name in a run's spec."""

from __future__ import annotations

import pytest
import torch

from dstrl.policies.simba import SparseSimbaSACPolicy
from dstrl.policies.simba_value import SparseSimbaActorCriticPolicy
from dstrl.runs.build import build
from dstrl.runs.spec import RLSpec
from sparse_core.layers.residual import Residual


def test_a_run_has_the_network_it_names():
    spec = RLSpec.of(preset="simba", algo="sac", env="Pendulum-v1", network="bro", net_arch=(16,))
    model = build(spec.resolve())
    assert type(model.policy) is SparseSimbaSACPolicy and model.policy.block == "bro"
    assert sum(isinstance(m, Residual) for m in model.critic.qf0.modules()) == 1
    group = model.critic.optimizer.param_groups[0]
    assert isinstance(model.critic.optimizer, torch.optim.AdamW) and group["weight_decay"] == 0.01
    other = build(RLSpec(network="simba").resolve())
    assert type(other.policy) is SparseSimbaActorCriticPolicy
    assert other.policy.net_arch == {"pi": [128], "vf": [512, 512]}
    assert other.policy.optimizer.param_groups[0]["weight_decay"] == 0.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(network="resnet"), "network='resnet': must be one of mlp, simba, bro"),
        (dict(network="simba", algo="dqn"), "network='simba': algo 'dqn' has no residual networks"),
        (dict(network="simba", net_arch=(8, 9)), "must have one width"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        RLSpec(**fields)
    assert message in str(caught.value)
