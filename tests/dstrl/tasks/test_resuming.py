"""Runs over sequences that were stopped, in tasks and in baselines, end as they would have."""

from __future__ import annotations

import pytest

from dstrl.tasks import train
from dstrl.tasks.spec import CRLSpec
from sparse_core.config import SparseConfig
from tests.dstrl.runs.test_resuming import Often, Stopped

PPO = {"steps": 64, "hyper": {"n_steps": 16, "batch_size": 16, "n_epochs": 1}, "plasticity": True}
SAC = {"sequence": "pendulum", "algo": "sac", "steps": 60, "hyper": {"buffer_size": 30}}


def ended(spec, tmp_path, every, *stops):
    left = list(stops)
    while True:
        try:
            checkpoints = Often(tmp_path / "checkpoint", every, left)
            return train.run(spec, tmp_path / "output", lambda *told: None, checkpoints)
        except Stopped:
            continue


@pytest.mark.parametrize(
    ("values", "every", "stops"),
    [
        (PPO, 1, (2, 4, 9)),
        pytest.param(SAC, 7, (40, 100, 150), marks=pytest.mark.slow),
    ],
    ids=["ppo", "sac"],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, values, every, stops):
    sparse = SparseConfig(method="set", sparsity=0.8, update_every=2)
    small = {
        "n_envs": 1,
        "share": "reuse",
        "net_arch": (32, 32),
        "eval_episodes": 1,
        "eval_every": 30,
        "seed": 2,
    }
    spec = CRLSpec(**small | values, sparse=sparse)
    whole = train.run(spec, tmp_path / "whole", lambda *told: None)
    assert ended(spec, tmp_path, every, *stops) == whole
