"""A trained policy in the form in which it acts: condensed, without what only training needs.

    small = model.policy.condense()
    action, _ = small.predict(observation, deterministic=True)

Target networks and the critics of off-policy algorithms are left out; the value network of PPO and
its kin is kept. The copy cannot be trained, and is saved with `torch.save(small, path)`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.distributions import Distribution

from sparse_core import condense
from sparse_core.folding import remove_ablated

if TYPE_CHECKING:
    from dstrl.mixin import SparsePolicy

FOR_TRAINING = ("critic", "critic_target", "actor_target", "q_net_target", "quantile_net_target")
"""Networks that acting does not need."""

HEADS = (("policy_net", "action_net"), ("value_net", "value_net"))
"""Networks of `mlp_extractor` and the layers that alone read them."""


class LeftOut(nn.Module):
    """Stands in the place of critics, whose mode Stable-Baselines3 sets when a policy predicts."""

    def set_training_mode(self, mode: bool) -> None:
        """Do nothing."""


def inference_policy(policy: SparsePolicy, batch: int = 1) -> Any:
    """Return a copy of a policy that predicts the same actions and holds active weights only.

    Args:
        policy: In any state of its training; it stays as it is.
        batch: Observations that it will be given at once.
    """
    assert isinstance(policy, nn.Module)
    modules, roots = dict(policy._modules), policy._roots
    acting = [policy, *(m for m in (modules.get("actor"),) if m is not None)]
    distributions = [(m, m.action_dist) for m in acting if hasattr(m, "action_dist")]
    try:
        for name in FOR_TRAINING:
            policy._modules.pop(name, None)
        policy._roots = {}
        for module, distribution in distributions:
            module.action_dist = _without_graph(distribution)
        small: Any = condense(policy, batch)
    finally:
        policy._modules.clear()
        policy._modules.update(modules)
        policy._roots = roots
        for module, distribution in distributions:
            module.action_dist = distribution
    if "critic" in modules:
        small.critic = LeftOut()
    small.sparse = copy.deepcopy(policy.sparse)
    if hasattr(small, "mlp_extractor") and not getattr(small, "use_sde", False):
        for inner, head in HEADS:
            _fold(small, inner, head)
    return small


def _without_graph(distribution: Any) -> Any:
    """Return a distribution of actions without what it keeps of the last batch."""
    result = copy.copy(distribution)
    for name, value in vars(distribution).items():
        if isinstance(value, Tensor):
            setattr(result, name, value.detach())
        elif isinstance(value, Distribution):
            setattr(result, name, None)
        elif isinstance(value, list) and any(isinstance(one, Distribution) for one in value):
            setattr(result, name, [])
    return result


def _fold(small: Any, inner: str, head: str) -> None:
    """Remove ablated neurons of a last hidden layer, whose outputs one head alone reads."""
    network, output = getattr(small.mlp_extractor, inner), getattr(small, head)
    if isinstance(network, nn.Sequential) and len(network):
        remove_ablated(nn.Sequential(network, output))
