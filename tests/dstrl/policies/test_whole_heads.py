"""Networks with their heads give what Stable-Baselines3 makes of them one after the other."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from dstrl import SparseActorCriticPolicy
from dstrl.policies.whole_heads import evaluated

SPACES = {
    "gaussian": gym.spaces.Box(-1, 1, (3,), np.float32),
    "categorical": gym.spaces.Discrete(4),
    "categories": gym.spaces.MultiDiscrete([2, 3]),
    "bernoulli": gym.spaces.MultiBinary(3),
}


def policy(actions="gaussian", backend="condensed", **kwargs):
    torch.manual_seed(0)
    return SparseActorCriticPolicy(
        gym.spaces.Box(-1, 1, (12,), np.float32),
        SPACES[actions],
        lambda _: 1e-3,
        net_arch=[16, 16],
        sparse=dict(sparsity=0.5, backend=backend, dense=[]),
        **kwargs,
    )


def gradients(made, results):
    made.zero_grad()
    values, log_prob, entropy = results
    if entropy is None:
        entropy = log_prob
    (values.square().mean() - log_prob.mean() + 0.1 * entropy.mean()).backward()
    return [p.grad for p in made.parameters()]


@pytest.mark.parametrize("actions", SPACES)
def test_values_and_gradients_are_the_same(actions):
    made = policy(actions)
    observations = torch.rand(9, 12)
    chosen = torch.as_tensor(np.stack([SPACES[actions].sample() for _ in range(9)])).float()
    assert evaluated(made, observations) is not None
    ours = made.evaluate_actions(observations, chosen)
    theirs = ActorCriticPolicy.evaluate_actions(made, observations, chosen)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    expected = gradients(made, theirs)
    found = gradients(made, made.evaluate_actions(observations, chosen))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_what_it_leaves_to_the_policy():
    observations = torch.rand(3, 12)
    assert evaluated(policy(backend="masked"), observations) is None
    assert evaluated(policy(use_sde=True), observations) is None
    watched = policy()
    seen = []
    watched.mlp_extractor.register_forward_hook(lambda *_: seen.append(1))
    watched.evaluate_actions(observations, torch.zeros(3, 3))
    assert seen == [1]
    one_layer = policy()
    one_layer.action_net.register_forward_hook(lambda *_: seen.append(2))
    one_layer.evaluate_actions(observations, torch.zeros(3, 3))
    assert seen == [1, 2]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_copies_compute_with_their_own_layers(copied):
    made, observations = policy(), torch.rand(3, 12)
    with torch.no_grad():
        before = evaluated(made, observations)[1]
        other = copied(made)
        other.value_net.bias += 1
        torch.testing.assert_close(evaluated(other, observations)[1], before + 1)
        torch.testing.assert_close(evaluated(made, observations)[1], before)
