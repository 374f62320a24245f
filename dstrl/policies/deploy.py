"""A trained policy in the form in which it acts: condensed, without what only training needs.

    small = model.policy.condense()
    action, _ = small.predict(observation, deterministic=True)

Target networks and the critics of off-policy algorithms are left out; the value network of PPO and
its kin is kept. The copy cannot be trained, and is saved with `torch.save(small, path)`.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from torch.distributions import Distribution

from sparse_core import condense
from sparse_core.export.folding import remove_ablated

FOR_TRAINING = ("critic", "critic_target", "actor_target", "q_net_target", "quantile_net_target")
"""Networks that acting does not need."""

HEADS = (("policy_net", "action_net"), ("value_net", "value_net"))
"""Networks of `mlp_extractor` and the layers that alone read them."""


class LeftOut(nn.Module):
    """Stands in the place of critics, whose mode Stable-Baselines3 sets when a policy predicts."""

    def set_training_mode(self, mode: bool) -> None:
        """Do nothing."""


def inference_policy(policy: Any, batch: int = 1) -> Any:
    """Return a copy of a policy that predicts the same actions and holds active weights only.

    Args:
        policy: A `SparsePolicy` in any state of its training; it stays as it is.
        batch: Observations that it will be given at once.
    """
    modules, roots = dict(policy._modules), policy._roots
    try:
        for name in FOR_TRAINING:
            policy._modules.pop(name, None)
        policy._roots = {}
        small: Any = condense(policy, batch)
    finally:
        policy._modules.clear()
        policy._modules.update(modules)
        policy._roots = roots
    for module in small.modules():
        if hasattr(module, "action_dist"):
            _forget_batch(module.action_dist)
    if "critic" in modules:
        small.critic = LeftOut()
    small.sparse = copy.deepcopy(policy.sparse)
    if hasattr(small, "mlp_extractor") and not getattr(small, "use_sde", False):
        for inner, head in HEADS:
            _fold(small, inner, head)
    return small


def _forget_batch(distribution: Any) -> None:
    """Drop what a distribution of actions keeps of the last batch."""
    for name, value in vars(distribution).items():
        if isinstance(value, Distribution):
            setattr(distribution, name, None)
        elif isinstance(value, list) and any(isinstance(one, Distribution) for one in value):
            setattr(distribution, name, [])


def _fold(small: Any, inner: str, head: str) -> None:
    """Remove ablated neurons of a last hidden layer, whose outputs one head alone reads."""
    network, output = getattr(small.mlp_extractor, inner), getattr(small, head)
    if isinstance(network, nn.Sequential) and len(network):
        remove_ablated(nn.Sequential(network, output))
