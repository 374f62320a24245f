"""Switching tasks: labels as given, and a refused switch changes nothing."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env

from dstrl.tasks.policies import ContinualActorCriticPolicy, ContinualDQNPolicy, ContinualSACPolicy
from dstrl.tasks.switching import begin_task
from sparse_core import InputError

SPARSE = dict(method="rigl", sparsity=0.8, dense=("input",), update_every=4)


def ppo(sparsity=0.8, n_envs=1):
    return PPO(
        ContinualActorCriticPolicy,
        make_vec_env("CartPole-v1", n_envs),
        n_steps=16,
        batch_size=16,
        n_epochs=1,
        seed=0,
        device="cpu",
        policy_kwargs=dict(sparse=SPARSE | {"sparsity": sparsity}, net_arch=[16, 16]),
    )


def answer(model, label):
    with model.policy.task(label), torch.no_grad():
        return model.policy.get_distribution(torch.ones(3, 4)).distribution.logits.clone()


@pytest.mark.parametrize("label", [1 << 24, 20261128, (1 << 53), (1 << 62) - 2])
def test_labels_of_any_size_are_the_labels_given(label):
    model = ppo()
    begin_task(model, label)
    model.learn(16)
    assert model.policy.training_task == label
    begin_task(model, label + 1)
    first = answer(model, label)
    assert model.policy.training_task == label + 1 and model.policy.finished_tasks == [label]
    model.learn(16)
    model.policy.end_task()
    assert model.policy.finished_tasks == [label, label + 1]
    assert torch.equal(answer(model, label), first)


def test_labels_come_from_any_library_and_have_an_end():
    model = ppo()
    begin_task(model, np.int64(7))
    assert model.policy.training_task == 7
    for label, message in [
        (1 << 62, "label=4611686018427387904: must be at most 2"),
        (-1, "label=-1: must be an integer of at least 0"),
        (True, "label=True: must be an integer"),
        ("a", "label='a': must be an integer"),
    ]:
        with pytest.raises(InputError, match=message):
            begin_task(model, label)
        assert model.policy.training_task == 7 and model.policy.finished_tasks == []


def test_a_policy_keeps_the_task_in_training_when_it_is_saved(tmp_path):
    model = ppo()
    begin_task(model, (1 << 60) + 1)
    model.save(tmp_path / "model")
    assert PPO.load(tmp_path / "model").policy.training_task == (1 << 60) + 1


@pytest.mark.parametrize(
    ("env", "error", "message"),
    [
        (lambda: make_vec_env("Pendulum-v1", 1), ValueError, "Observation spaces do not match"),
        (lambda: make_vec_env("CartPole-v1", 3), InputError, "env: has 3 environments.* with 1"),
        (lambda: "CartPole-v1", InputError, "env='CartPole-v1': must be an environment"),
    ],
)
def test_a_wrong_environment_begins_nothing(env, error, message):
    """With room for two tasks, a mistake and a retry must not use it up."""
    model = ppo(0.5)
    begin_task(model, 0)
    model.learn(16)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    with pytest.raises(error, match=message):
        begin_task(model, 1, env())
    after = model.policy.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert model.policy.training_task == 0 and model.policy.finished_tasks == []
    model.learn(16)
    begin_task(model, 1, gym.make("CartPole-v1"))
    assert model.policy.training_task == 1 and model.policy.finished_tasks == [0]


def test_a_refused_label_leaves_the_task_in_training():
    model = ppo()
    begin_task(model, 0)
    model.learn(16)
    with pytest.raises(InputError, match="label=0: is the task in training"):
        begin_task(model, 0)
    assert model.policy.training_task == 0
    begin_task(model, 1)
    with pytest.raises(InputError, match="label=0: was trained already; tasks so far: 0"):
        begin_task(model, 0)
    assert model.policy.training_task == 1 and model.policy.finished_tasks == [0]


def test_a_task_that_will_not_fit_is_refused_before_the_one_in_training_ends():
    model = ppo(0.4)  # room for one
    begin_task(model, 0)
    model.learn(16)
    held = [tensor.protected for tensor in model.policy._trunk.values()]
    with pytest.raises(InputError, match="task 1 does not fit"):
        begin_task(model, 1)
    assert model.policy.training_task == 0 and model.policy.finished_tasks == []
    assert [tensor.protected for tensor in model.policy._trunk.values()] == held
    model.learn(16)


def off_policy(algorithm, policy, env):
    return algorithm(
        policy,
        env,
        learning_starts=1000,
        buffer_size=100,
        seed=0,
        device="cpu",
        policy_kwargs=dict(sparse=SPARSE, net_arch=[16, 16]),
    )


@pytest.mark.parametrize(
    ("algorithm", "policy", "env"),
    [(DQN, ContinualDQNPolicy, "CartPole-v1"), (SAC, ContinualSACPolicy, "Pendulum-v1")],
)
def test_off_policy_algorithms_do_not_act_for_no_task(algorithm, policy, env):
    model = off_policy(algorithm, policy, env)
    with pytest.raises(RuntimeError, match="no task is in training: call begin_task"):
        model.learn(20)
    begin_task(model, 0)
    model.learn(20)
    with model.policy.task(0), pytest.raises(RuntimeError, match=r"leave `with policy.task\(0\)`"):
        model.learn(20)
    assert model.replay_buffer.size() == 20
    model.policy.end_task()
    model.policy.set_training_mode(False)  # acting needs no task
    with model.policy.task(0):
        model.predict(model.observation_space.sample())


def test_sharing_without_isolation_is_refused():
    with pytest.raises(InputError, match="share='reuse': plays no part under isolation='none'"):
        PPO(
            ContinualActorCriticPolicy,
            "CartPole-v1",
            policy_kwargs=dict(sparse=SPARSE, isolation="none", share="reuse"),
        )
