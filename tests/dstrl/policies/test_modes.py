"""Training mode reaches every module of a policy, whatever became of the tree."""

from __future__ import annotations

import copy

import pytest
from stable_baselines3 import PPO, SAC
from torch import nn

import dstrl


def policy_of(algorithm):
    dstrl.register()
    env = "Pendulum-v1" if algorithm is SAC else "CartPole-v1"
    return algorithm("SparseMlpPolicy", env, policy_kwargs=dict(net_arch=[8, 8])).policy


def modes(policy):
    """Modes of a policy's networks; Stable-Baselines3 leaves targets alone."""
    return {
        module.training
        for name, module in policy.named_modules()
        if not name.startswith(("actor_target", "critic_target"))
    }


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_every_module_is_in_the_mode(algorithm):
    policy = policy_of(algorithm)
    for mode in (False, True, False):
        policy.set_training_mode(mode)
        assert modes(policy) == {mode}
        next(policy.children()).train(not mode)
    policy.eval()
    assert modes(policy) == {False}
    with pytest.raises(ValueError, match="boolean"):
        policy.train("yes")


def test_modules_that_came_later_and_copies():
    policy = policy_of(SAC)
    policy.set_training_mode(False)
    policy.critic.qf0.append(nn.Sequential(nn.Dropout()))
    policy.set_training_mode(False)
    assert modes(policy) == {False}
    policy.critic.qf0[-1][0] = nn.Dropout()
    twin = copy.deepcopy(policy)
    twin.set_training_mode(False)
    assert modes(twin) == {False}
    assert policy.critic.qf0[-1][0].training


def test_a_module_with_a_mode_of_its_own_keeps_it():
    class Frozen(nn.Dropout):
        def train(self, mode=True):
            return super().train(False)

    policy = policy_of(PPO)
    policy.frozen = Frozen()
    policy.set_training_mode(True)
    assert not policy.frozen.training and policy.value_net.training
