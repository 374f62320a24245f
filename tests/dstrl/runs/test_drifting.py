"""Runs in worlds that drift: one world for all environments, evaluated as it is at the time."""

from __future__ import annotations

import numpy as np
from stable_baselines3 import PPO

from dstrl.runs.build import make_env, vectorised
from dstrl.runs.evaluate import Evaluator
from dstrl.runs.spec import RLSpec

DRIFTING = RLSpec(
    env="CartPole-v1",
    wrappers=("DynamicsSchedule", "PermuteObservation"),
    wrapper_kwargs={
        "DynamicsSchedule": {
            "parameters": {"length": {"kind": "random-walk", "scale": 0.2, "every": 5}}
        },
        "PermuteObservation": {"every": 10},
    },
    seed=3,
)


def test_all_environments_of_a_run_live_in_one_world():
    envs = vectorised(lambda: make_env(DRIFTING), 3)
    envs.seed(1)
    envs.set_options({"clock": 30})
    envs.reset()
    orders = [order.tolist() for order in envs.get_attr("permutation")]
    lengths = [env.unwrapped.length for env in envs.envs]
    assert orders[0] == orders[1] == orders[2] != [0, 1, 2, 3]
    assert lengths[0] == lengths[1] == lengths[2] != 0.5


def test_evaluation_is_in_the_world_of_the_present_time_of_training():
    training = vectorised(lambda: make_env(DRIFTING), 1)
    model = PPO("MlpPolicy", training, n_steps=32, batch_size=32, n_epochs=1, device="cpu", seed=0)
    evaluator = Evaluator(lambda: make_env(DRIFTING), 2, seed=0)
    seen = []
    evaluator.envs.env_method("set_clock", 0)
    reset = evaluator.envs.reset

    def resetting():
        observations = reset()
        seen.append(([env.unwrapped.length for env in evaluator.envs.envs], clocks()))
        return observations

    def clocks():
        return evaluator.envs.get_attr("clock")

    evaluator.envs.reset = resetting
    evaluator(model, 0)
    model.learn(64)
    lived = training.get_attr("clock")[0]
    evaluator(model, 1)
    assert lived == 64
    assert seen[0] == ([0.5, 0.5], [0, 0])
    assert seen[1][1] == [64, 64]
    training.set_options({"clock": 64})
    training.reset()
    np.testing.assert_array_equal(seen[1][0], [training.envs[0].unwrapped.length] * 2)


def test_where_episodes_take_turns_all_tasks_are_evaluated():
    spec = RLSpec(
        env="worlds/classic-control-v0", env_kwargs={"every": None, "tell_task": True}, seed=1
    )
    training = vectorised(lambda: make_env(spec), 1)
    model = PPO("MlpPolicy", training, n_steps=32, batch_size=32, device="cpu", seed=0)
    evaluator = Evaluator(lambda: make_env(spec), 4, seed=0)
    reset, tasks = evaluator.envs.reset, []

    def resetting():
        observations = reset()
        tasks.append(evaluator.envs.get_attr("task"))
        return observations

    evaluator.envs.reset = resetting
    evaluator(model, 0)
    assert tasks == [[0, 1, 2, 0]]
    scheduled = vectorised(lambda: make_env(RLSpec(env="worlds/classic-control-v0", seed=1)), 2)
    scheduled.set_options({"clock": 60_000})
    scheduled.reset()
    assert scheduled.get_attr("task") == [1, 1]


def test_training_in_a_world_that_stays_tells_no_time():
    training = vectorised(lambda: make_env(RLSpec(env="CartPole-v1")), 1)
    model = PPO("MlpPolicy", training, n_steps=32, batch_size=32, device="cpu", seed=0)
    evaluator = Evaluator(lambda: make_env(DRIFTING), 2, seed=0)
    assert evaluator(model, 0).shape == (2,)
