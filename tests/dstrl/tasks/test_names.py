"""The policy of an algorithm is found in one way: by the algorithm's class."""

from __future__ import annotations

import pytest
from stable_baselines3 import DDPG, PPO, TD3

import dstrl
from dstrl.policies.names import policies
from dstrl.runs.build import ALGORITHMS
from dstrl.tasks.mixin import ContinualPolicy
from dstrl.tasks.names import continual_policies


def test_every_algorithm_of_runs_has_both_kinds():
    for algorithm in ALGORITHMS.values():
        sparse = policies()[algorithm]["SparseMlpPolicy"]
        continual = continual_policies()[algorithm]
        assert issubclass(continual, sparse) and issubclass(continual, ContinualPolicy)


def test_kin_share_one():
    found = continual_policies()
    assert found[PPO] is dstrl.ContinualActorCriticPolicy
    assert found[TD3] is found[DDPG] is dstrl.ContinualTD3Policy


def test_those_of_sb3_contrib_are_there_if_it_is():
    contrib = pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    found = continual_policies()
    assert found[contrib.TQC] is dstrl.ContinualTQCPolicy
    assert found[contrib.QRDQN] is dstrl.ContinualQRDQNPolicy
    assert set(found) < set(policies())
