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

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces

from dstrl.policies.mixin import SparsePolicy
from dstrl.policies.simba import SimbaDefaults
from dstrl.settings import Settings
from sparse_core.budgets.widths import Widths, widest_within
from sparse_core.config import SparseConfig


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

    def build(how: Settings, **changed: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            spaces_and_rate = (observation_space, action_space, lambda progress: 0.0)
            return policy(*spaces_and_rate, **policy_kwargs | changed, sparse=how)

    settings = Settings.read(sparse).static()
    full, dense = build(settings), settings.dense()
    return widest_within(
        full.net_arch,
        lambda arch: _active_weights(build(dense, net_arch=arch)),
        _active_weights(full),
        "net_arch",
        alike=isinstance(full, SimbaDefaults),
    )


def _active_weights(policy: SparsePolicy) -> int:
    engines = policy.sparse_engines.values()
    return sum(layer.active for engine in engines for layer in engine.layers())
