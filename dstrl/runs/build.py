"""Build the algorithm of a run: its environments, hyper-parameters, sparse policy and buffer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import nn

from dstrl.compiled import dqn, ppo, sac, td3
from dstrl.policies.names import NAMES, SIMBA, policies
from dstrl.policies.tiny import Arch, tiny_arch
from dstrl.runs import references
from dstrl.runs.hyperparameters import linear
from dstrl.runs.replay import DynamicReplayBuffer, ReplayCallback
from dstrl.runs.spec import NETWORKS, RLSpec
from dstrl.seeds import derive
from envs.noise import NoisyFeatures
from sparse_core.checks import InputError

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "ppo": PPO,
    "a2c": A2C,
    "dqn": DQN,
    "sac": SAC,
    "td3": TD3,
    "ddpg": DDPG,
}

COMPILED: dict[str, type[BaseAlgorithm]] = {
    "dqn": dqn.DQN,
    "ppo": ppo.PPO,
    "sac": sac.SAC,
    "td3": td3.TD3,
    "ddpg": td3.DDPG,
}
"""Those of them whose gradient steps can be compiled, in that form."""

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}

ACTIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
"""The spaces of actions that Stable-Baselines3 knows."""

FOR_POLICY = ("log_std_init", "ortho_init")
"""Hyper-parameters that are arguments of the policy."""

FOR_REPLAY = ("n_steps_from", "buffer_distance", "buffer_least", "buffer_check")
"""Hyper-parameters that `dstrl.runs.replay` reads."""

OPTIMIZER = {"ppo": {"eps": 1e-5}}
"""What Stable-Baselines3 tells an algorithm's optimizer unless it is told something else."""


def build(
    spec: RLSpec,
    *,
    make: Callable[[], gym.Env[Any, Any]] | None = None,
    policy: type[Any] | None = None,
    arch: Arch | None = None,
    **for_policy: Any,
) -> BaseAlgorithm:
    """Make the algorithm of a resolved spec, with its environments and its sparse policy.

    Args:
        spec: A resolved spec.
        make: Makes one environment, instead of the spec's.
        policy: Instead of the algorithm's sparse policy.
        arch: Chooses the hidden layers of a dense policy, which is built then; None: that of
            `tiny`, if the spec says so.
        for_policy: More arguments of the policy.

    Raises:
        ValueError: If the environment does not suit the algorithm.
    """
    hyper = dict(spec.hyper)
    envs = vectorised(make or (lambda: make_env(spec)), spec.n_envs or 1)
    if hyper.pop("normalize"):
        envs = VecNormalize(envs, gamma=spec.hyper["gamma"])
    algorithm = ALGORITHMS[spec.algo]
    _check_actions(spec.algo, spec.env, envs.action_space)
    policy = policy or _policy_for(algorithm, envs.observation_space, spec.network)
    sparse = dataclasses.replace(spec.settings(), batch=_batch(spec))
    policy_kwargs: dict[str, Any] = {
        "sparse": sparse,
        "net_arch": list(spec.net_arch or ()),
        "activation_fn": _activation(hyper.pop("activation")),
    }
    if spec.features_extractor is not None:
        arguments = spec.features_extractor_kwargs
        extractor = references.features_extractor(spec.features_extractor, arguments)
        policy_kwargs["features_extractor_class"] = extractor
        policy_kwargs["features_extractor_kwargs"] = dict(arguments)
    if spec.optimizer is not None:
        policy_kwargs["optimizer_class"] = references.optimizer(spec.optimizer)
    policy_kwargs |= {name: hyper.pop(name) for name in FOR_POLICY if name in hyper}
    if spec.network != NETWORKS[0]:
        policy_kwargs |= {"block": spec.network, "net_arch": list(spec.net_arch or ()) or None}
    policy_kwargs |= for_policy
    arch = arch or (tiny_arch if spec.tiny else None)
    if arch is not None:
        told = (
            policy_kwargs | {"use_sde": hyper["use_sde"]} if "use_sde" in hyper else policy_kwargs
        )
        widths = arch(policy, envs.observation_space, envs.action_space, **told)
        policy_kwargs |= {"net_arch": widths, "sparse": sparse.dense()}
    decay = hyper.pop("weight_decay", 0.0)
    residual = spec.network != NETWORKS[0]
    if decay or (residual and spec.optimizer is None):  # whose policies decay by themselves
        own = OPTIMIZER.get(spec.algo, {}) if spec.optimizer is None else {}
        policy_kwargs["optimizer_kwargs"] = {"weight_decay": decay} | own
    deviation = hyper.pop("noise_std", 0)
    if deviation:
        shape = envs.action_space.shape or ()
        hyper["action_noise"] = NormalActionNoise(np.zeros(shape), deviation * np.ones(shape))
    hyper |= _replay(hyper, envs.observation_space)
    for name, value in hyper.items():
        start = linear(value)
        if start is not None:
            hyper[name] = LinearSchedule(start, 0.0, 1.0)
    made = COMPILED.get(spec.algo, algorithm) if spec.compiled else algorithm
    return made(
        policy,
        envs,
        policy_kwargs=policy_kwargs,
        seed=spec.seed,
        device="cpu",
        **hyper,
    )


def _activation(name: str) -> type[nn.Module]:
    return ACTIVATIONS.get(name) or references.activation(name)


def _batch(spec: RLSpec) -> int:
    """Return the samples of a training batch, which the choice of backends asks for."""
    hyper = spec.hyper
    return int(hyper.get("batch_size") or hyper["n_steps"] * (spec.n_envs or 1))


def make_env(spec: RLSpec, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """Make one environment of a run, with its wrappers.

    Those that drift do so alike in all environments of the run.

    Args:
        spec: The run.
        render_mode: As Gymnasium takes it; None: the environment is not told, it may know none.
    """
    env = spec.env_builder.make(render_mode)
    if env.has_wrapper_attr("join_world"):
        env.get_wrapper_attr("join_world")(derive(spec.seed, "world"))
    return NoisyFeatures(env, spec.noise) if spec.noise else env


def vectorised(make: Callable[[], gym.Env[Any, Any]], count: int) -> VecEnv:
    """Make environments that are stepped together, their returns recorded."""
    return DummyVecEnv([lambda: Monitor(make())] * count)


def replay_callback(hyper: Mapping[str, Any]) -> ReplayCallback | None:
    """Return what conducts the replay buffer of a run with these hyper-parameters, if anything."""
    threshold, later = hyper.get("buffer_distance"), hyper.get("n_steps_from", 0)
    if threshold is None and not later:
        return None
    limits = {"least": hyper["buffer_least"], "every": hyper["buffer_check"]} if threshold else {}
    return ReplayCallback(hyper["n_steps"], later, threshold, **limits)


def _replay(hyper: dict[str, Any], space: spaces.Space[Any]) -> dict[str, Any]:
    """Take what concerns the replay buffer out of the hyper-parameters; return SB3's words for it.

    A buffer class that is given overrules `n_steps`, which it is therefore told itself.
    """
    conducted = replay_callback(hyper) is not None
    if conducted and isinstance(space, spaces.Dict):
        raise InputError(
            "hyper.n_steps_from, hyper.buffer_distance: need vectors or images as observations, "
            "not dictionaries"
        )
    own = {name: hyper.pop(name) for name in FOR_REPLAY if name in hyper}
    if not conducted:
        return {}
    dynamic = own.get("buffer_distance") is not None
    steps = 1 if own["n_steps_from"] else hyper["n_steps"]
    return {
        "n_steps": 1,
        "replay_buffer_class": DynamicReplayBuffer if dynamic else NStepReplayBuffer,
        "replay_buffer_kwargs": {"n_steps": steps, "gamma": hyper["gamma"]},
    }


def _check_actions(algo: str, env: str, space: spaces.Space[Any]) -> None:
    if not isinstance(space, ACTIONS):
        raise InputError(f"algo={algo!r}: cannot act in {space}, as {env} asks for", field="algo")
    continuous = isinstance(space, spaces.Box)
    if (algo in ("sac", "td3", "ddpg") and not continuous) or (
        algo == "dqn" and not isinstance(space, spaces.Discrete)
    ):
        needed = "discrete" if algo == "dqn" else "continuous"
        raise InputError(
            f"algo={algo!r}: needs {needed} actions, those of {env} are {space}", field="algo"
        )


def _policy_for(
    algorithm: type[BaseAlgorithm], space: spaces.Space[Any], network: str
) -> type[Any]:
    vectors, images, dictionaries = NAMES
    named = policies()[algorithm]
    if network != NETWORKS[0]:
        return named[SIMBA]
    if isinstance(space, spaces.Dict):
        return named[dictionaries]
    return named[images if is_image_space(space) else vectors]
