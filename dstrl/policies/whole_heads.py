"""Actor and value network, heads included, as two chains that read their features together.

Stable-Baselines3 calls a head after the network before it, which costs a condensed one as much as
the layers: here each is one chain, and both are one function of autograd.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor

from sparse_core.layers.branches import run_branches
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.passing import watched

_KEPT = "_whole_networks"
"""Where a policy keeps the chains, whose modules are its own."""

_BY_LOGITS = (CategoricalDistribution, MultiCategoricalDistribution, BernoulliDistribution)


def evaluated(policy: Any, observations: Any) -> tuple[Distribution, Tensor] | None:
    """Return the distribution of actions and the values; None where the policy has to do it.

    Args:
        policy: Of PPO or A2C.
        observations: A batch, as the policy takes it.

    Returns:
        The distribution, and values, (batch, 1).
    """
    networks = _whole(policy)
    if networks is None:
        return None
    decided, values = run_branches(networks, policy.extract_features(observations))
    distribution = policy.action_dist
    if isinstance(distribution, DiagGaussianDistribution):
        return distribution.proba_distribution(decided, policy.log_std), values
    return distribution.proba_distribution(action_logits=decided), values


def _whole(policy: Any) -> list[CondensedSequential] | None:
    """Return both networks with their heads, or None if they are not such as run in one piece."""
    extractor, distribution = policy.mlp_extractor, policy.action_dist
    if (
        type(extractor) is not MlpExtractor
        or not policy.share_features_extractor
        or type(distribution) not in (DiagGaussianDistribution, *_BY_LOGITS)
        or watched(extractor)
    ):
        return None
    pairs = (extractor.policy_net, policy.action_net), (extractor.value_net, policy.value_net)
    for body, head in pairs:
        if type(body) is not CondensedSequential or type(head) is not CondensedLinear:
            return None
        if watched(body):
            return None
    modules = [[*body, head] for body, head in pairs]
    kept: list[CondensedSequential] = vars(policy).get(_KEPT, [])
    if [list(network) for network in kept] != modules:
        kept = vars(policy)[_KEPT] = [CondensedSequential(*network) for network in modules]
    return kept
