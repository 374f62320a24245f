"""Runs that were stopped and went on from checkpoints end as they would have without."""

from __future__ import annotations

import gymnasium as gym
import pytest

from dstrl.runs import train
from dstrl.runs.spec import RLSpec
from sparse_core.checkpoints import Checkpoints


class Stopped(BaseException):
    """A run was killed."""


class Often(Checkpoints):
    """Writes a checkpoint at every `every`-th opportunity, and stops the run at some of them."""

    def __init__(self, folder, every, stops):
        super().__init__(folder, 0)
        self.every, self.stops, self.asked = every, stops, 0

    def due(self):
        self.asked += 1
        if self.stops and self.asked > self.stops[0]:
            self.stops.pop(0)
            raise Stopped
        return super().due() and self.asked % self.every == 0


def ended(spec, tmp_path, every, *stops):
    """Return the result of a run that is stopped after so many opportunities, again and again."""
    left = list(stops)
    while True:
        try:
            checkpoints = Often(tmp_path / "checkpoint", every, left)
            return train.run(spec, tmp_path / "output", lambda *told: None, checkpoints)
        except Stopped:
            continue


def whole(spec, tmp_path):
    return train.run(spec, tmp_path / "whole", lambda *told: None)


SMALL = {"net_arch": (16, 16), "eval_episodes": 1, "seed": 3}
PPO = {
    "env": "CartPole-v1",
    "n_envs": 2,
    "steps": 128,
    "eval_every": 50,
    "hyper": {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "normalize": True},
    "sparse": {"method": "srigl", "sparsity": 0.6, "update_every": 3, "backend": "condensed"},
    "plasticity": True,
}
SAC = {
    "algo": "sac",
    "env": "Pendulum-v1",
    "steps": 100,
    "eval_every": 100,
    "hyper": {"buffer_size": 40, "use_sde": True, "learning_starts": 20, "batch_size": 16},
    "sparse": {"method": "rigl", "sparsity": 0.6, "update_every": 9},
}


@pytest.mark.parametrize(
    ("values", "every", "stops"), [(PPO, 1, (2, 2)), (SAC, 16, (40, 35))], ids=["ppo", "sac"]
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, capsys, values, every, stops):
    spec = RLSpec.of(**SMALL | values)
    assert ended(spec, tmp_path, every, *stops) == whole(spec, tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" checkpoint")[0] for line in said] == ["goes on from"] * 2


DRIFT = {
    "wrappers": ("DynamicsSchedule", "PermuteObservation"),
    "wrapper_kwargs": {
        "DynamicsSchedule": {
            "parameters": {"length": {"kind": "random-walk", "scale": 0.2, "every": 5}}
        },
        "PermuteObservation": {"every": 10},
    },
    "n_envs": 1,
    "hyper": {"n_steps": 16, "batch_size": 16},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "every", "stops"),
    [
        ({"algo": "dqn", "steps": 400}, 10, (25, 22)),
        ({"algo": "td3", "env": "Pendulum-v1", "steps": 300}, 20, (45, 50)),
        ({"algo": "ddpg", "env": "Pendulum-v1", "steps": 300}, 20, (130, 50)),
        ({"algo": "a2c", "n_envs": 2, "steps": 200}, 2, (5, 6)),
        (
            {
                "algo": "sac",
                "env": "Pendulum-v1",
                "steps": 300,
                "network": "simba",
                "net_arch": (32, 32),
            },
            30,
            (150, 95),
        ),
        (DRIFT, 1, (2, 3)),
    ],
    ids=["dqn", "td3", "ddpg", "a2c", "simba", "drift"],
)
@pytest.mark.parametrize("method", ["set", "srigl", "granet"])
def test_every_algorithm_goes_on(tmp_path, values, every, stops, method):
    spec = RLSpec.of(
        **{"steps": 160, "seed": 1, "eval_episodes": 1} | values,
        sparse={"method": method, "sparsity": 0.7, "update_every": 5},
    )
    assert ended(spec, tmp_path, every, *stops) == whole(spec, tmp_path)


class Unpicklable(gym.Wrapper):
    """Holds what no pickle can."""

    def __init__(self, env):
        super().__init__(env)
        self.held = (n for n in range(3))


def test_an_environment_that_cannot_be_kept_is_said_once_and_the_run_begins_again(tmp_path, capsys):
    here = "tests.dstrl.runs.test_resuming:Unpicklable"
    spec = RLSpec.of(**SMALL | PPO | {"plasticity": False, "wrappers": (here,)})
    assert ended(spec, tmp_path, 1, 2) == whole(spec, tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2  # once for each time that it began
    assert all("cannot pickle 'generator'" in line for line in said)
