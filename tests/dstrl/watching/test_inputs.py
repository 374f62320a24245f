"""Where connections of input layers end up: counts by hand, and what has none to count."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from stable_baselines3 import PPO, SAC

import dstrl
import sparse_core.imports
from dstrl.runs.measured import INPUTS, at_true_features
from dstrl.watching.inputs import InputConnections
from envs import NoisyFeatures


def counted(algorithm, env, **sparse):
    dstrl.register()
    made = algorithm("SparseMlpPolicy", env, policy_kwargs={"net_arch": [8], "sparse": sparse})
    callback = InputConnections()
    callback.init_callback(made)
    return made, callback


def noisy(name: str) -> gym.Env:
    return NoisyFeatures(gym.make(name), 0.5)


def test_connections_are_counted_by_feature():
    model, callback = counted(PPO, noisy("CartPole-v1"), sparsity=0.5, backend="masked")
    policy_net, value_net = (
        tensor.active()
        for tensor in model.policy.sparse_engines["policy"].tensors
        if tensor.role == "input"
    )
    each = (policy_net.sum(0) + value_net.sum(0)) / 2
    found = callback.result()
    assert found["features"] == each.tolist() and len(each) == 4 + 4
    assert found["true"] == pytest.approx(float(100 * each[:4].sum() / each.sum()))
    assert sparse_core.imports.load("callbacks", INPUTS, "", callable) is InputConnections
    assert at_true_features({"measured": {INPUTS: found}}) == found["true"]
    assert at_true_features({"measured": {INPUTS: {}}}) is at_true_features({}) is None


def test_actions_that_a_critic_reads_are_no_features():
    model, callback = counted(SAC, noisy("Pendulum-v1"), sparsity=0.5)
    for engine in model.policy.sparse_engines.values():
        for tensor in engine.tensors:
            if tensor.role == "input":
                assert tensor.cols in (6, 7)
    assert len(callback.result()["features"]) == 6


@pytest.mark.parametrize(
    ("env", "sparse"),
    [
        (gym.make("CartPole-v1"), dict(sparsity=0.5)),
        (noisy("CartPole-v1"), dict(method="dense")),
    ],
)
def test_there_may_be_nothing_to_count(env, sparse):
    torch.manual_seed(0)
    assert counted(PPO, env, **sparse)[1].result() == {}
