"""RLx2's replay, against its rules worked out by hand."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.buffers import NStepReplayBuffer

from dstrl.runs.build import build, replay_callback
from dstrl.runs.replay import DynamicReplayBuffer, ReplayCallback
from dstrl.runs.spec import RLSpec
from sparse_core.config import SparseConfig


def buffer(size=10, n_envs=1, **kwargs):
    box = spaces.Box(-1, 1, (1,), dtype=np.float32)
    return DynamicReplayBuffer(size, box, box, n_envs=n_envs, **{"n_steps": 1} | kwargs)


def fill(replay, numbers, mean=None):
    """Add transitions whose observation, action and reward are a number."""
    for number in numbers:
        value = np.full((replay.n_envs, 1), number, dtype=np.float32)
        replay.next_mean = None if mean is None else np.full((replay.n_envs, 1), mean)
        flat = np.full(replay.n_envs, number, dtype=np.float32)
        replay.add(value, value + 1, value, flat, np.zeros(replay.n_envs), [{}] * replay.n_envs)


def seen(replay, draws=400):
    return set(np.unique(replay.sample(draws).observations.numpy()).tolist())


def test_it_holds_what_a_ring_buffer_holds():
    replay = buffer(size=4)
    fill(replay, range(3))
    assert (replay.size(), seen(replay)) == (3, {0, 1, 2})
    fill(replay, range(3, 6))
    assert (replay.size(), seen(replay)) == (4, {2, 3, 4, 5})
    assert replay.observations[replay.oldest(2)].ravel().tolist() == [2, 3]
    replay.reset()
    assert replay.size() == 0


def test_shrinking_forgets_the_oldest_tenth():
    replay = buffer(size=40)
    fill(replay, range(35))
    replay.shrink()
    assert replay.size() == 35 - 3
    assert seen(replay, 2000) == set(range(3, 35))
    fill(replay, range(35, 50))
    assert replay.size() == 40
    assert seen(replay, 2000) == set(range(10, 50))
    replay.shrink()
    replay.shrink()
    assert replay.size() == 40 - 4 - 3
    assert replay.observations[replay.oldest(1)].item() == 17


def test_n_step_targets_never_reach_past_the_newest_transition():
    replay = buffer(size=40, n_steps=3, gamma=0.5)
    fill(replay, range(1, 30))
    replay.shrink()
    batch = replay.sample(500)
    first = batch.observations.numpy().ravel()
    full = first <= 27
    assert np.allclose(batch.rewards.numpy().ravel()[full], (1.75 * first + 0.5 + 0.5)[full])
    assert np.allclose(batch.discounts.numpy().ravel()[full], 0.125)
    assert np.allclose(batch.rewards.numpy().ravel()[first == 29], 29)
    assert np.allclose(batch.next_observations.numpy().ravel()[first == 29], 30)
    assert {3.0, 28.0, 29.0} <= set(first.tolist())


def test_the_distance_is_half_the_mean_square_to_the_stored_means():
    replay = buffer(size=10, n_envs=2)
    fill(replay, [0.1, 0.2], mean=0.5)
    fill(replay, [0.3])
    assert replay.means[:3, :, 0] == pytest.approx(np.array([[0.5] * 2, [0.5] * 2, [0.3] * 2]))
    still = replay.distance(lambda observations: np.zeros_like(observations), 2)
    assert still == pytest.approx(0.5 * 0.25)
    all_three = replay.distance(lambda observations: 2 * observations, 9)
    squares = [(0.2 - 0.5) ** 2, (0.4 - 0.5) ** 2, (0.6 - 0.3) ** 2]
    assert all_three == pytest.approx(0.5 * np.mean(squares))


def spec(**hyper):
    base = {"learning_starts": 8, "batch_size": 4, "buffer_size": 100}
    sparse = SparseConfig(method="rigl", sparsity=0.5)
    return RLSpec(
        algo="td3", env="Pendulum-v1", steps=40, net_arch=(8, 8), sparse=sparse, hyper=base | hyper
    ).resolve()


class Watch(ReplayCallback):
    """Notes the buffer's steps at the gradient steps done, and its size."""

    def _on_step(self):
        super()._on_step()
        replay = self.model.replay_buffer
        self.notes.append((self.model._n_updates, replay.n_steps, replay.size()))
        return True


def test_multi_step_targets_begin_with_the_named_gradient_step():
    run = spec(n_steps=3, n_steps_from=10)
    model = build(run)
    assert type(model.replay_buffer) is NStepReplayBuffer
    watch = Watch(3, 10)
    watch.notes = []
    model.learn(40, callback=watch)
    for done, n_steps, _ in watch.notes:
        assert n_steps == (3 if done + 1 >= 10 else 1)
    assert {n for _, n, _ in watch.notes} == {1, 3}


def test_the_buffer_shrinks_where_the_policy_has_moved_and_enough_is_held(monkeypatch):
    run = spec(buffer_distance=1e-9, buffer_least=19, buffer_check=10)
    model = build(run)
    assert type(model.replay_buffer) is DynamicReplayBuffer
    watch = Watch(1, 0, 1e-9, 19, 10)
    watch.notes = []
    model.learn(40, callback=watch)
    sizes = [size for _, _, size in watch.notes]
    # Looked at after 10, 20, 30 and 40 steps, when 9, 19, 29 and 39 - 2 transitions are held.
    assert sizes == [*range(29), 29 - 2, *range(28, 37), 37 - 3]
    calm = replay_callback(spec(buffer_distance=100.0, buffer_least=1, buffer_check=10).hyper)
    assert build(run).learn(40, callback=calm).replay_buffer.size() == 40


def test_stored_means_are_the_policys_actions_without_noise():
    run = spec(buffer_distance=1e9, buffer_check=1000, noise_std=0.5, learning_rate=0.0)
    model = build(run).learn(40, callback=replay_callback(run.hyper))
    replay = model.replay_buffer
    assert np.array_equal(replay.means[:8], replay.actions[:8])
    observations = replay.observations[8:40].reshape(-1, 3)
    plain = model.policy.scale_action(model.predict(observations, deterministic=True)[0])
    assert np.allclose(replay.means[8:40].reshape(-1, 1), plain, atol=1e-5)
    assert not np.allclose(replay.means[8:40], replay.actions[8:40], atol=0.1)


def test_they_are_ordinary_parts_of_stable_baselines3(tmp_path):
    dense = SAC(
        "MlpPolicy",
        "Pendulum-v1",
        replay_buffer_class=DynamicReplayBuffer,
        replay_buffer_kwargs={"n_steps": 1, "gamma": 0.99},
        learning_starts=8,
        policy_kwargs={"net_arch": [8]},
        device="cpu",
    )
    dense.learn(20, callback=ReplayCallback(3, 5, threshold=0.0, least=10, every=10))
    assert dense.replay_buffer.n_steps == 3
    dense.save(tmp_path / "model")
    dense.save_replay_buffer(tmp_path / "buffer")
    loaded = SAC.load(tmp_path / "model", device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded.replay_buffer.size() == dense.replay_buffer.size() == 20 - 1


def test_without_these_settings_nothing_is_conducted():
    run = RLSpec(algo="td3", env="Pendulum-v1", steps=40, hyper={"n_steps": 3}).resolve()
    assert replay_callback(run.hyper) is None
    model = build(run)
    assert isinstance(model, TD3) and model.replay_buffer.n_steps == 3


def test_dqn_can_begin_late_too():
    hyper = {
        "n_steps": 3,
        "n_steps_from": 5,
        "learning_starts": 4,
        "batch_size": 4,
        "train_freq": 1,
    }
    run = RLSpec(algo="dqn", net_arch=(8,), steps=20, hyper=hyper | {"gradient_steps": 1}).resolve()
    model = build(run)
    assert model.replay_buffer.n_steps == 1
    model.learn(20, callback=replay_callback(run.hyper))
    assert model.replay_buffer.n_steps == 3


def test_dictionaries_are_refused_in_one_line():
    gym.register("Dictionaries-v0", entry_point=Dictionaries)
    try:
        run = RLSpec(algo="sac", env="Dictionaries-v0", hyper={"buffer_distance": 0.2}).resolve()
        with pytest.raises(ValueError, match=r"^hyper\.n_steps_from, hyper\.buffer_distance: need"):
            build(run)
    finally:
        gym.registry.pop("Dictionaries-v0")


class Dictionaries(gym.Env):
    observation_space = spaces.Dict({"x": spaces.Box(-1, 1, (2,))})
    action_space = spaces.Box(-1, 1, (1,))
