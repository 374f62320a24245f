"""Small agents whose gradient steps are compared, one at a time, with Stable-Baselines3's own."""

from __future__ import annotations

import contextlib
import copy
import warnings
from unittest.mock import patch

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.distributions import normal

import dstrl
from dstrl.policies.simba import SparseSimbaSACPolicy, SparseSimbaTD3Policy

POLICIES = {
    "SAC": "SparseSACPolicy",
    "TD3": "SparseTD3Policy",
    "DDPG": "SparseTD3Policy",
    "DQN": "SparseDQNPolicy",
}
SIMBA = {"SAC": SparseSimbaSACPolicy, "TD3": SparseSimbaTD3Policy, "DDPG": SparseSimbaTD3Policy}


class Still(gym.Env):
    """A world of any size in which nothing happens."""

    def __init__(self, features=11, actions=3, discrete=False, dtype=np.float32):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (features,), dtype)
        self.action_space = gym.spaces.Box(-1, 1, (actions,), np.float32)
        if discrete:
            self.action_space = gym.spaces.Discrete(actions + 1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(self.observation_space.shape, self.observation_space.dtype), {}

    def step(self, action):
        observation = np.ones(self.observation_space.shape, self.observation_space.dtype)
        return observation, 0.0, False, False, {}


def agent(
    algorithm="SAC",
    arch=(64, 48),
    features=11,
    actions=3,
    sparse=None,
    kwargs=None,
    envs=1,
    dtype=np.float32,
    normalise=False,
    simba=False,
    **more,
):
    """An agent of `dstrl` whose replay buffer is full of noise."""
    kind = getattr(dstrl, algorithm)
    rules = {
        "method": "srigl",
        "sparsity": 0.8,
        "backend": "condensed",
        "update_every": 5,
        "horizon": 4000,
        "min_fan_in": 1,
    }
    policy = SIMBA[algorithm] if simba else getattr(dstrl, POLICIES[algorithm])
    options = {"net_arch": list(arch), "sparse": rules | (sparse or {})} | (kwargs or {})
    more = {"buffer_size": 500, "seed": 1, "device": "cpu"} | more
    world = DummyVecEnv([lambda: Still(features, actions, algorithm == "DQN", dtype)] * envs)
    if normalise:
        world = VecNormalize(world)
        world.obs_rms.mean[:], world.obs_rms.var[:] = 0.5, 4.0
    model = kind(policy, world, policy_kwargs=options, **more)
    model.set_logger(Logger(None, []))
    fill(model.replay_buffer)
    return model


def fill(buffer):
    """Fill a replay buffer with noise."""
    noise = np.random.default_rng(5)
    arrays = [buffer.observations, buffer.rewards]
    if not buffer.optimize_memory_usage:
        arrays.insert(1, buffer.next_observations)
    for array in arrays:
        array[:] = noise.standard_normal(array.shape)
    if buffer.actions.dtype == np.float32:
        buffer.actions[:] = noise.uniform(-1, 1, buffer.actions.shape)
    else:
        buffer.actions[:] = noise.integers(0, buffer.action_space.n, buffer.actions.shape)
    buffer.dones[:] = noise.random(buffer.dones.shape) < 0.1
    buffer.full = True


def twin_of(model, algorithm="SAC", **options):
    """An agent made alike that trains by Stable-Baselines3's own steps."""
    twin = agent(algorithm, **options)
    twin.compiled = False
    twin.replay_buffer = model.replay_buffer
    return twin


def optimizers(model):
    """An agent's optimizers by name."""
    if not hasattr(model, "actor"):
        return {"q_net": model.policy.optimizer}
    found = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
    entropy = getattr(model, "ent_coef_optimizer", None)
    return found if entropy is None else found | {"entropy": entropy}


def bring(twin, model):
    """Bring an agent into the state of another."""
    restore(twin, snapshot(model))


def snapshot(model):
    """Return the state of an agent, to be restored in others."""
    weights = {name: value.clone() for name, value in model.policy.state_dict().items()}
    found = {name: copy.deepcopy(each.state_dict()) for name, each in optimizers(model).items()}
    entropy = getattr(model, "log_ent_coef", None)
    return weights, found, None if entropy is None else entropy.detach().clone(), model._n_updates


def restore(model, state):
    """Bring an agent into a state."""
    weights, found, entropy, model._n_updates = state
    model.policy.load_state_dict(weights)
    for name, optimizer in optimizers(model).items():
        optimizer.load_state_dict(copy.deepcopy(found[name]))
    if entropy is not None:
        model.log_ent_coef.data.copy_(entropy)


def exact_twin_of(model, algorithm="SAC", **options):
    """An agent made alike that computes Stable-Baselines3's own steps in float64."""
    exact = twin_of(model, algorithm, **options)
    names = {value.data_ptr(): name for name, value in exact.policy.named_buffers()}
    exact.policy.double()
    buffers = dict(exact.policy.named_buffers())
    for key, values in list(vars(exact).items()):
        if "batch_norm_stats" in key:  # they hold on to the buffers that they were made with
            setattr(exact, key, [buffers[names[value.data_ptr()]] for value in values])
    return exact


@contextlib.contextmanager
def float64():
    """Observations become float64; draws are those of float32."""
    draw = normal._standard_normal

    def drawn(shape, dtype, device):
        return draw(shape, torch.float32, device).double()

    with (
        patch.object(torch.Tensor, "float", torch.Tensor.double),
        patch.object(normal, "_standard_normal", drawn),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", ".*no kernel for a parameter that is float64")
        yield


def step(model, batch=32, seed=0, steps=1):
    """Make gradient steps; return what was logged."""
    np.random.seed(seed)
    torch.manual_seed(seed)
    model.logger.name_to_value.clear()
    model.train(steps, batch)
    after = np.random.random(), torch.rand(1).item()
    return dict(model.logger.name_to_value), after


def tensors(model):
    """All that a step moves, by name: weights, moments, the entropy coefficient."""
    found = dict(model.policy.state_dict())
    for name, optimizer in optimizers(model).items():
        for index, state in enumerate(optimizer.state_dict()["state"].values()):
            found |= {f"{name}.{index}.{key}": value for key, value in state.items()}
    if getattr(model, "log_ent_coef", None) is not None:
        found["log_ent_coef"] = model.log_ent_coef.detach()
    return found


def sizes(model):
    """The largest entry of each tensor.

    A single number may be the small difference of large ones: for its moments these are the
    largest ones of the optimizer.
    """
    found = tensors(model)
    largest = {name: float(tensor.abs().max()) for name, tensor in found.items()}
    for name, tensor in found.items():
        if tensor.numel() == 1 and name.endswith(("exp_avg", "exp_avg_sq")):
            owner, _, kind = name.split(".")
            alike = [n for n in found if n.startswith(f"{owner}.") and n.endswith(f".{kind}")]
            largest[name] = max(largest[n] for n in alike)
    return largest


def distances(model, twin, before=None):
    """Return the largest difference of any two tensors by name, in fractions of their sizes.

    Args:
        model: An agent.
        twin: Another one.
        before: The sizes before the step from which they come. A mean moves by a gradient that may
            cancel it, and is rounded as the larger of the two is.
    """
    mine, theirs, largest = tensors(model), tensors(twin), sizes(twin)
    assert mine.keys() == theirs.keys()
    found = {}
    for name, tensor in mine.items():
        size = max(largest[name], (before or {}).get(name, 0.0))
        difference = float((tensor.double() - theirs[name].double()).abs().max())
        found[name] = difference / size if size else difference
    return found


def worst(model, twin):
    """The largest of the distances and its name."""
    found = distances(model, twin)
    name = max(found, key=found.get)
    return found[name], name
