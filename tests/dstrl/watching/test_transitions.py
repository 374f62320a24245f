"""The latest transitions, against a list of what was added: rings that wrap, many environments."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.buffers import (
    DictReplayBuffer,
    DictRolloutBuffer,
    NStepReplayBuffer,
    ReplayBuffer,
    RolloutBuffer,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, SimpleMultiObsEnv
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

import dstrl
from dstrl.runs.replay import DynamicReplayBuffer
from dstrl.watching.losses import samples_of
from dstrl.watching.metrics import activity, flops_ratios, gradient_noise, representation_rank
from dstrl.watching.transitions import last_observed, rollout_rows, row_of, steps_held

VECTOR = spaces.Box(-np.inf, np.inf, (2,))
DICT = spaces.Dict(a=VECTOR, b=spaces.Box(-np.inf, np.inf, (1, 3)))
ACTION = spaces.Box(-np.inf, np.inf, (1,))


def numbered(space, number, envs):
    """Observations that say which step, and which environment, they are of."""
    if isinstance(space, spaces.Dict):
        return {key: numbered(part, number, envs) for key, part in space.items()}
    shape = (envs,) + (1,) * len(space.shape)
    return np.zeros((envs, *space.shape)) + number + np.arange(envs).reshape(shape) / 10


def filled(kind, steps, envs, rows=8, **extra):
    """A replay buffer of `rows` rows after so many steps."""
    space = DICT if kind is DictReplayBuffer else VECTOR
    buffer = kind(rows * envs, space, ACTION, n_envs=envs, **extra)
    for step in range(steps):
        obs, following = numbered(space, step, envs), numbered(space, step + 1, envs)
        action = numbered(ACTION, step, envs)
        nothing = np.zeros(envs)
        buffer.add(obs, following, action, nothing, nothing, [{}] * envs)
    return buffer


class Holder(OffPolicyAlgorithm):
    """An algorithm as far as its buffer goes."""

    def __init__(self, buffer):
        self.replay_buffer = buffer
        self.device = torch.device("cpu")
        self._vec_normalize_env = None

    def _setup_model(self):
        pass


class OnPolicyHolder(OnPolicyAlgorithm):
    """The same for a rollout buffer."""

    def __init__(self, buffer):
        self.rollout_buffer = buffer
        self.device = torch.device("cpu")


def identities(observations, actions):
    """Read off which (step, environment) each row is of; observations and actions must agree."""
    for part in observations.values() if isinstance(observations, dict) else [observations]:
        flat = part.reshape(len(part), -1)
        assert torch.equal(flat, flat[:, :1].expand_as(flat))
        assert torch.equal(flat[:, 0], actions[:, 0])
    return [round(float(value), 1) for value in actions[:, 0]]


@pytest.mark.parametrize("kind", [ReplayBuffer, NStepReplayBuffer, DictReplayBuffer])
@pytest.mark.parametrize("envs", [1, 2, 3])
@pytest.mark.parametrize("steps", [0, 1, 5, 8, 9, 15, 16, 21])
@pytest.mark.parametrize("count", [1, 2, 5, 256])
def test_the_latest_are_the_last_that_were_added(kind, envs, steps, count):
    found = last_observed(Holder(filled(kind, steps, envs)), count)
    added = [step + env / 10 for step in range(steps) for env in range(envs)]
    if not added:
        assert found is None
        return
    assert identities(*found) == added[-min(count, 8 * envs) :]


def test_a_ring_that_was_just_filled_is_not_empty():
    dstrl.register()
    model = DQN(
        "SparseMlpPolicy",
        "CartPole-v1",
        buffer_size=64,
        learning_starts=8,
        policy_kwargs=dict(net_arch=[16, 16]),
        seed=0,
        device="cpu",
    )
    for steps in (64, 4):
        model.learn(steps, reset_num_timesteps=False)
        assert len(last_observed(model, 32)[0]) == 32
        numbers = activity(model) | flops_ratios(model) | gradient_noise(model)
        keys = {"q_net/dormant_0", "q_net/dormant_0.025", "infer_ratio", "train_ratio", "q_net"}
        assert numbers.keys() == keys
        assert representation_rank(model) is not None


def test_an_observation_that_is_overwritten_is_not_shown():
    """Kept once, the oldest row's observation is the newest one's successor."""
    memory = dict(optimize_memory_usage=True, handle_timeout_termination=False)
    for steps, held in ((5, 5), (8, 7), (11, 7)):
        buffer = filled(ReplayBuffer, steps, 2, **memory)
        assert steps_held(buffer) == held
        newest = [step + env / 10 for step in range(steps) for env in range(2)][-2 * held :]
        assert identities(*last_observed(Holder(buffer), 100)) == newest


def test_what_was_forgotten_is_not_shown():
    buffer = filled(DynamicReplayBuffer, 13, 1, rows=10)
    for _ in range(2):
        buffer.shrink()  # the oldest tenth of ten, then of nine
    assert steps_held(buffer) == buffer.held < 10
    newest = list(range(13 - buffer.held, 13))
    assert identities(*last_observed(Holder(buffer), 100)) == newest
    assert buffer.observations[buffer.oldest(3), 0, 0].tolist() == newest[:3]


@pytest.mark.parametrize("steps", [3, 8, 13])
def test_ages_are_counted_from_the_newest(steps):
    buffer = filled(ReplayBuffer, steps, 1)
    for age in range(min(steps, 8)):
        assert buffer.observations[row_of(buffer, age), 0, 0] == steps - 1 - age


@pytest.mark.parametrize("kind", [RolloutBuffer, DictRolloutBuffer])
@pytest.mark.parametrize("envs", [1, 2, 3])
@pytest.mark.parametrize(("steps", "merged"), [(1, False), (5, False), (8, False), (8, True)])
def test_a_rollout_shows_every_row_once_however_it_is_held(kind, envs, steps, merged):
    space = DICT if kind is DictRolloutBuffer else VECTOR
    buffer = kind(8, space, ACTION, n_envs=envs)
    for step in range(steps):
        ones = torch.ones(envs)
        obs, action = numbered(space, step, envs), numbered(ACTION, step, envs)
        buffer.add(obs, action, np.ones(envs), np.zeros(envs), ones, ones)
    if merged:
        next(buffer.get(4))
    pick = rollout_rows(buffer, 100)
    observations = pick(buffer.observations)
    actions = torch.as_tensor(pick(buffer.actions))
    as_tensors = (
        {key: torch.as_tensor(value) for key, value in observations.items()}
        if isinstance(observations, dict)
        else torch.as_tensor(observations)
    )
    wanted = [step + env / 10 for step in range(steps) for env in range(envs)]
    assert sorted(identities(as_tensors, actions)) == sorted(wanted)
    assert pick(buffer.values).size == steps * envs
    few = rollout_rows(buffer, 2)(buffer.actions)
    assert few.shape == (min(2, steps * envs), 1)
    model = OnPolicyHolder(buffer)
    assert len(last_observed(model, 4)[1]) == min(4, steps * envs)
    buffer.reset()
    assert last_observed(model, 4) is None


def test_hindsight_buffers_are_read_like_others():
    dstrl.register()
    model = DQN(
        "SparseMultiInputPolicy",
        make_vec_env(lambda: BitFlippingEnv(n_bits=3, max_steps=4), 2),
        replay_buffer_class=HerReplayBuffer,
        buffer_size=48,
        learning_starts=10,
        train_freq=1,
        batch_size=8,
        policy_kwargs=dict(net_arch=[16]),
        seed=0,
        device="cpu",
    )
    for steps in (48, 14):
        model.learn(steps, reset_num_timesteps=False)
        observations, actions = last_observed(model, 9)
        assert {key: len(value) for key, value in observations.items()} == dict.fromkeys(
            ("observation", "achieved_goal", "desired_goal"), 9
        )
        newest = model.replay_buffer.observations["observation"][model.replay_buffer.pos - 1]
        assert np.array_equal(observations["observation"][-2:].numpy(), newest)
        assert len(actions) == 9
        assert len(samples_of(model, 7)) == 7
        assert np.isfinite(list(gradient_noise(model).values())).all()


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_dictionaries_of_images_and_vectors_are_measured_too(algorithm):
    dstrl.register()
    off_policy = dict(buffer_size=16, learning_starts=4, batch_size=4)
    model = algorithm(
        "SparseMultiInputPolicy",
        make_vec_env(lambda: SimpleMultiObsEnv(channel_last=False), 2),
        policy_kwargs=dict(
            net_arch=[8],
            features_extractor_kwargs=dict(cnn_output_dim=8),
            sparse=dict(sparsity=0.5),
        ),
        seed=0,
        device="cpu",
        **(off_policy if algorithm is DQN else dict(n_steps=8, batch_size=8, n_epochs=1)),
    ).learn(16)
    observations, actions = last_observed(model, 5)
    assert {len(part) for part in observations.values()} == {5} == {len(actions)}
    assert activity(model) and flops_ratios(model) and gradient_noise(model)


def test_samples_cover_a_ring_that_is_full():
    model = SAC("MlpPolicy", gym.make("Pendulum-v1"), buffer_size=8, seed=0, device="cpu")
    model.replay_buffer = filled(ReplayBuffer, 13, 1)
    seen = [round(float(sample.actions[0, 0])) for sample in samples_of(model, 8)]
    assert sorted(seen) == list(range(5, 13))
