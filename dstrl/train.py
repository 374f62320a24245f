"""Train one run of reinforcement learning, evaluate it on the way, and say how it went."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import nn

from dstrl.callbacks import SparseCallback
from dstrl.evaluate import Evaluator
from dstrl.hyperparameters import linear
from dstrl.mixin import SparsePolicy
from dstrl.policies import POLICIES
from dstrl.spec import RLSpec
from envs.wrappers import NoisyFeatures

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "ppo": PPO,
    "a2c": A2C,
    "dqn": DQN,
    "sac": SAC,
    "td3": TD3,
    "ddpg": DDPG,
}

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}

FOR_POLICY = ("log_std_init", "ortho_init")
"""Hyper-parameters that are arguments of the policy."""

FINAL_PART = 0.1
"""The score is the mean over this last part of the evaluations (Graesser et al. 2022)."""

PROGRESS_EVERY = 0.5
"""Seconds between two reports of progress."""

Progress = Callable[[float, Mapping[str, float]], None]


def run(spec: RLSpec, out: Path, progress: Progress) -> dict[str, Any]:
    """Train as the spec says, in one thread.

    Args:
        spec: The run.
        out: A folder; the trained model goes there.
        progress: Told the fraction that is done and the numbers so far, at least once a second of
            work.

    Returns:
        `score` (mean return over the last tenth of the evaluations), `curve` (environment steps,
        mean return), `returns` (of each episode of each evaluation), `sparsity`, `layers`, `hyper`.

    Raises:
        ValueError: If the environment does not suit the algorithm, in one line.
    """
    torch.set_num_threads(1)
    spec = spec.resolve()
    model = build(spec)
    evaluator = Evaluator(lambda: make_env(spec), spec.eval_episodes, spec.seed)
    conductor = _Conductor(spec, evaluator, progress)
    progress(0.0, {"steps": 0.0})
    model.learn(spec.steps or 0, callback=[SparseCallback(), conductor])
    conductor.evaluate(final=True)
    evaluator.close()
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model.zip")
    normalise = model.get_vec_normalize_env()
    if normalise is not None:
        normalise.save(str(out / "normalise.pkl"))
    assert model.env is not None
    model.env.close()
    return _result(spec, model, conductor)


def build(spec: RLSpec) -> BaseAlgorithm:
    """Make the algorithm of a resolved spec, with its environments and its sparse policy.

    Raises:
        ValueError: If the environment does not suit the algorithm.
    """
    hyper = dict(spec.hyper)
    envs = _vectorised(spec, normalise=hyper.pop("normalize"))
    algorithm = ALGORITHMS[spec.algo]
    _check_actions(spec.algo, spec.env, envs.action_space)
    policy_kwargs: dict[str, Any] = {
        "sparse": spec.settings(),
        "net_arch": list(spec.net_arch or ()),
        "activation_fn": ACTIVATIONS[hyper.pop("activation")],
    }
    policy_kwargs |= {name: hyper.pop(name) for name in FOR_POLICY if name in hyper}
    deviation = hyper.pop("noise_std", 0)
    if deviation:
        shape = envs.action_space.shape or ()
        hyper["action_noise"] = NormalActionNoise(np.zeros(shape), deviation * np.ones(shape))
    for name, value in hyper.items():
        start = linear(value)
        if start is not None:
            hyper[name] = LinearSchedule(start, 0.0, 1.0)
    return algorithm(
        _policy_for(algorithm, envs.observation_space),
        envs,
        policy_kwargs=policy_kwargs,
        seed=spec.seed,
        device="cpu",
        **hyper,
    )


def make_env(spec: RLSpec) -> gym.Env[Any, Any]:
    """Make one environment of a run, with its wrappers."""
    env: gym.Env[Any, Any] = gym.make(spec.env)
    return NoisyFeatures(env, spec.noise) if spec.noise else env


def _vectorised(spec: RLSpec, normalise: bool) -> VecEnv:
    envs: VecEnv = DummyVecEnv([lambda: Monitor(make_env(spec))] * (spec.n_envs or 1))
    if normalise:
        envs = VecNormalize(envs, gamma=spec.hyper["gamma"])
    return envs


def _check_actions(algo: str, env: str, space: spaces.Space[Any]) -> None:
    continuous = isinstance(space, spaces.Box)
    if (algo in ("sac", "td3", "ddpg") and not continuous) or (
        algo == "dqn" and not isinstance(space, spaces.Discrete)
    ):
        needed = "discrete" if algo == "dqn" else "continuous"
        raise ValueError(f"algo={algo!r}: needs {needed} actions, those of {env} are {space}")


def _policy_for(algorithm: type[BaseAlgorithm], space: spaces.Space[Any]) -> type[Any]:
    vectors, images, dictionaries = POLICIES[TD3 if algorithm is DDPG else algorithm]
    if isinstance(space, spaces.Dict):
        return dictionaries
    return images if is_image_space(space) else vectors


class _Conductor(BaseCallback):
    """Evaluates when it is time and reports progress."""

    def __init__(self, spec: RLSpec, evaluator: Evaluator, progress: Progress) -> None:
        super().__init__()
        self.spec = spec
        self.evaluator = evaluator
        self.progress = progress
        self.curve: list[tuple[int, float]] = []
        self.returns: list[list[float]] = []
        self._reported = -math.inf

    def _on_step(self) -> bool:
        assert self.spec.eval_every is not None
        if self.num_timesteps >= (len(self.curve) + 1) * self.spec.eval_every:
            self.evaluate()
        elif time.monotonic() - self._reported >= PROGRESS_EVERY:
            self.report()
        return True

    def evaluate(self, final: bool = False) -> None:
        """Evaluate now; a final evaluation replaces one that was made at the very same step."""
        if final and self.curve and self.curve[-1][0] == self.num_timesteps:
            self.curve.pop()
            self.returns.pop()
        returns = self.evaluator(self.model, len(self.curve))
        self.curve.append((self.num_timesteps, float(returns.mean())))
        self.returns.append(returns.tolist())
        self.report()

    def report(self) -> None:
        """Report how far the run is."""
        numbers = {"steps": float(self.num_timesteps)}
        if self.curve:
            numbers["return"] = self.curve[-1][1]
        self.progress(min(1.0, self.num_timesteps / (self.spec.steps or 1)), numbers)
        self._reported = time.monotonic()


def _result(spec: RLSpec, model: BaseAlgorithm, conductor: _Conductor) -> dict[str, Any]:
    policy = model.policy
    assert isinstance(policy, SparsePolicy)
    curve = conductor.curve
    last = curve[-math.ceil(FINAL_PART * len(curve)) :]
    layers = []
    active = total = 0
    for name, engine in policy.sparse_engines.items():
        sparse = {tensor.name for tensor in engine.tensors}
        for layer in engine.layers():
            full = layer.name if name == "policy" else f"{name}.{layer.name}"
            layers.append({"name": full, "active": layer.active, "total": layer.total})
            if engine.config.dense_in_budget or layer.name in sparse:
                active, total = active + layer.active, total + layer.total
    dense = all(engine.config.method == "dense" for engine in policy.sparse_engines.values())
    return {
        "score": float(np.mean([y for _, y in last])),
        "curve": [[x, y] for x, y in curve],
        "returns": conductor.returns,
        "sparsity": {
            "requested": 0.0 if dense else spec.sparse.sparsity,
            "achieved": 1 - active / total if total else 0.0,
        },
        "layers": layers,
        "optimizer_steps": {n: engine.steps for n, engine in policy.sparse_engines.items()},
        "updates": {n: engine.updates for n, engine in policy.sparse_engines.items()},
        "hyper": dict(spec.hyper),
    }
