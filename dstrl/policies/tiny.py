"""The baseline `tiny`: a dense network with as many weights as the sparse one has active ones.

    arch = tiny_arch(SparseSACPolicy, env.observation_space, env.action_space, dict(sparsity=0.9))
    SAC("MlpPolicy", env, policy_kwargs=dict(net_arch=arch))

All hidden layers shrink by the same factor, to the widest network that does not exceed the budget;
then each, from the first on, gets the neurons for which there is still room; the blocks of a
residual network get them together, for they have one width. Weights of all layers
count, those that stay dense too, and biases do not. Methods whose sparsity moves have the budget of
their end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from gymnasium import spaces

from dstrl.policies.mixin import SparsePolicy
from dstrl.policies.simba import SimbaDefaults
from dstrl.settings import Settings
from sparse_core.budgets.widths import Widths, widest_within
from sparse_core.config import SparseConfig

Arch = Callable[..., Widths]
"""Chooses hidden layers, called as `tiny_arch` is."""


def tiny_arch(
    policy: type[SparsePolicy],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    sparse: Settings | SparseConfig | Mapping[str, Any] | None = None,
    **policy_kwargs: Any,
) -> Widths:
    """Return the hidden layers of a dense policy with no more weights than a sparse one has active.

    Nothing is drawn from torch's global random stream.

    Args:
        policy: The sparse policy.
        observation_space: Of the environment.
        action_space: Of the environment.
        sparse: How sparse it would be, as the policy takes it.
        policy_kwargs: Its other arguments, `net_arch` among them.

    Raises:
        InputError: If even one neuron a layer is too much.
    """
    settings = Settings.read(sparse).static()
    full = _built(policy, observation_space, action_space, settings, policy_kwargs)
    return dense_arch(
        policy,
        observation_space,
        action_space,
        _active_weights(full),
        **policy_kwargs | {"sparse": settings},
    )


def dense_arch(
    policy: type[SparsePolicy],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    budget: int,
    remedy: str = "lower the sparsity",
    *,
    sparse: Settings,
    **policy_kwargs: Any,
) -> Widths:
    """Return the hidden layers of the widest dense policy that has at most so many weights.

    Args:
        policy: The sparse policy.
        observation_space: Of the environment.
        action_space: Of the environment.
        budget: How many weights there may be.
        remedy: What helps where they are too few, for messages.
        sparse: Settings of which all but the sparsity counts.
        policy_kwargs: Its other arguments, `net_arch` among them.

    Raises:
        InputError: If even one neuron a layer is too much.
    """

    def built(**changed: Any) -> Any:
        arguments = policy_kwargs | changed
        return _built(policy, observation_space, action_space, sparse.dense(), arguments)

    full = built()
    return widest_within(
        full.net_arch,
        lambda arch: _active_weights(built(net_arch=arch)),
        budget,
        "net_arch",
        remedy,
        alike=isinstance(full, SimbaDefaults),
    )


def _built(
    policy: type[SparsePolicy],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    sparse: Settings,
    policy_kwargs: Mapping[str, Any],
) -> Any:
    """Build a policy; nothing is drawn from torch's global random stream."""
    with torch.random.fork_rng(devices=[]):
        spaces_and_rate = (observation_space, action_space, lambda progress: 0.0)
        return policy(*spaces_and_rate, **policy_kwargs, sparse=sparse)


def _active_weights(policy: SparsePolicy) -> int:
    engines = policy.sparse_engines.values()
    return sum(layer.active for engine in engines for layer in engine.layers())
