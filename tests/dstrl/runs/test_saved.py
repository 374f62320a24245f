"""What a run leaves is read as it was written, and nothing that lies there is run."""

from __future__ import annotations

import base64
import dataclasses
import json
import pickle
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from dstrl.runs.build import ALGORITHMS, build
from dstrl.runs.saved import FORMER, MODEL, STATISTICS, load, save
from dstrl.runs.spec import RLSpec
from dstrl.tasks.spec import CRLSpec
from dstrl.tasks.switching import begin_task
from dstrl.tasks.train import make_model
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig

HYPER = {
    "ppo": {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "normalize": True},
    "sac": {"learning_starts": 20, "buffer_size": 200},
    "dqn": {"learning_starts": 20, "buffer_size": 200},
}


def spec_of(algo, **values):
    env = "Pendulum-v1" if algo == "sac" else "CartPole-v1"
    sparse = SparseConfig(sparsity=0.5, update_every=5, backend="auto")
    fields = dict(net_arch=(16, 16), sparse=sparse, hyper=HYPER[algo]) | values
    return RLSpec(algo=algo, env=env, n_envs=1, **fields).resolve()


@pytest.fixture(scope="module")
def ppo(tmp_path_factory):
    """A trained PPO with normalised observations, and where it was saved."""
    out = tmp_path_factory.mktemp("ppo")
    model = build(spec_of("ppo"))
    model.learn(64)
    save(model, out)
    return model, out


@pytest.mark.parametrize(
    ("algo", "values"),
    [
        ("ppo", {}),
        ("ppo", {"actor_sparsity": 0.75}),
        ("sac", {"net_arch": (256, 256)}),  # condensed
        ("dqn", {"tiny": True}),
    ],
)
def test_an_algorithm_acts_as_the_one_that_was_saved(algo, values, tmp_path):
    spec = spec_of(algo, **values)
    model = build(spec)
    model.learn(64)
    save(model, tmp_path / "deep" / "out")
    fresh = build(dataclasses.replace(spec, seed=7))
    load(fresh, tmp_path / "deep" / "out")
    whole = ALGORITHMS[algo].load(tmp_path / "deep" / "out" / MODEL, device="cpu")
    rng = np.random.default_rng(0)
    for _ in range(20):
        observation = rng.normal(size=model.observation_space.shape).astype(np.float32)
        actions = [m.predict(observation, deterministic=True)[0] for m in (model, fresh, whole)]
        assert np.array_equal(actions[0], actions[1]) and np.array_equal(actions[0], actions[2])


def test_statistics_are_those_that_were_saved(ppo):
    model, out = ppo
    fresh = build(spec_of("ppo"))
    load(fresh, out)
    one, other = model.get_vec_normalize_env(), fresh.get_vec_normalize_env()
    for name in ("obs_rms", "ret_rms"):
        for key in ("mean", "var", "count"):
            values = [getattr(getattr(envs, name), key) for envs in (one, other)]
            assert np.array_equal(*values)
    observation = np.array([1.0, -2.0, 0.5, 3.0], np.float32)
    assert np.array_equal(one.normalize_obs(observation), other.normalize_obs(observation))
    assert not other.training


class Two(gym.Env):
    """Observes a dictionary."""

    observation_space = spaces.Dict(
        {"a": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Box(-1, 1, (3, 2), np.float32)}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, False, False, {}


class Stand:
    """As much of an algorithm as statistics need."""

    def __init__(self, envs):
        self.envs = envs
        self.policy = torch.nn.Linear(1, 1)

    def get_vec_normalize_env(self):
        return self.envs

    def save(self, path):
        with zipfile.ZipFile(path, "w") as archive, archive.open("policy.pth", "w") as file:
            torch.save(self.policy.state_dict(), file)


def test_statistics_of_dictionaries_have_a_name_each(tmp_path):
    one, other = (Stand(VecNormalize(DummyVecEnv([Two]))) for _ in range(2))
    one.envs.reset()
    for _ in range(5):
        one.envs.step([0])
    save(one, tmp_path)
    load(other, tmp_path)
    for key in ("a", "b"):
        assert np.array_equal(one.envs.obs_rms[key].mean, other.envs.obs_rms[key].mean)
    assert one.envs.obs_rms["a"].count == other.envs.obs_rms["a"].count == 6.0001


def test_tasks_in_sequence_are_read_with_all_they_hold(tmp_path):
    sparse = SparseConfig(sparsity=0.8, dense=("input",), update_every=5)
    hyper = HYPER["ppo"] | {"normalize": False}
    spec = CRLSpec(sequence="cartpole", n_envs=1, net_arch=(16, 16), sparse=sparse, hyper=hyper)
    model, fresh = (make_model(spec.resolve()) for _ in range(2))
    for label in range(2):
        begin_task(model, label)
        model.learn(32)
    model.policy.end_task()
    save(model, tmp_path)
    load(fresh, tmp_path)
    assert fresh.policy.finished_tasks == [0, 1]
    observation = torch.tensor([[0.1, -0.2, 0.3, -0.4]])
    for label in range(2):
        with model.policy.task(label), fresh.policy.task(label), torch.no_grad():
            values = [m.policy.predict_values(observation) for m in (model, fresh)]
        assert values[0].equal(values[1])


class Touch:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def rewritten(source, target, **entries):
    """Copy a zip file with some entries replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, entries.get(name, old.read(name)))


def test_code_that_lies_in_a_folder_is_not_run(ppo, tmp_path):
    _, out = ppo
    bomb, here = tmp_path / "touched", tmp_path / "out"
    here.mkdir()
    code = pickle.dumps(Touch(bomb), 2)
    with zipfile.ZipFile(out / MODEL) as archive:
        data = json.loads(archive.read("data"))
    data["policy_class"] = {":serialized:": base64.b64encode(code).decode()}
    rewritten(out / MODEL, here / MODEL, data=json.dumps(data))
    (here / STATISTICS).write_bytes((out / STATISTICS).read_bytes())
    (here / FORMER).write_bytes(code)
    load(build(spec_of("ppo")), here)
    assert not bomb.exists()
    (here / STATISTICS).unlink()
    with pytest.raises(InputError, match=r"normalise='.*pkl': is a pickle of an earlier version"):
        load(build(spec_of("ppo")), here)
    np.save(here / "x.npy", np.array([Touch(bomb)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(here / STATISTICS, "w") as archive:
        for name in ("mean", "var", "count"):
            archive.write(here / "x.npy", f"observations/{name}.npy")
    with pytest.raises(InputError, match=r"normalise='.*npz': cannot be read: "):
        load(build(spec_of("ppo")), here)
    rewritten(out / MODEL, here / MODEL, **{"policy.pth": code})
    with pytest.raises(InputError, match=r"model='.*': cannot be read: ") as caught:
        load(build(spec_of("ppo")), here)
    assert "\n" not in str(caught.value)
    assert not bomb.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (MODEL, None, "model='.*': there is no such file"),
        (MODEL, b"", "model='.*': cannot be read: "),
        (MODEL, b"PK\x03\x04 and no more", "model='.*': cannot be read: "),
        (STATISTICS, None, "normalise='.*': cannot be read: "),
        (STATISTICS, b"PK\x03\x04 and no more", "normalise='.*': cannot be read: "),
        (STATISTICS, b"", "normalise='.*': cannot be read: "),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(ppo, tmp_path, name, content, message):
    _, out = ppo
    for file in (MODEL, STATISTICS):
        (tmp_path / file).write_bytes((out / file).read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load(build(spec_of("ppo")), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_spec_is_refused(ppo, tmp_path):
    _, out = ppo
    other = dataclasses.replace(spec_of("ppo"), net_arch=(8, 8))
    with pytest.raises(InputError, match=r"model='.*': cannot be read: ") as caught:
        load(build(other), out)
    assert "\n" not in str(caught.value)
    (tmp_path / MODEL).write_bytes((out / MODEL).read_bytes())
    np.savez(
        tmp_path / STATISTICS,
        **{f"observations/{key}": np.ones(3) for key in ("mean", "var", "count")},
    )
    with pytest.raises(InputError, match="observations: of another shape than those of the env"):
        load(build(spec_of("ppo")), tmp_path)
