"""Sparse policies of PPO and A2C: an actor and a value network with one optimizer.

They have one budget for the whole policy, unless actor and critic are given settings of their own;
features extractors that both share then belong to the actor.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)
from torch import Tensor, nn

from dstrl.policies.mixin import Part, SparsePolicy
from dstrl.policies.roles import roles_of
from dstrl.policies.views import NetworkView
from dstrl.policies.whole_heads import evaluated


class SparseActorAndValue(SparsePolicy):
    """What the policies of PPO and its kin have in common: one optimizer for actor and critic."""

    typical_batch = 64
    acts_per_sample = 0.1  # PPO's ten epochs
    optimizer: Any
    features_extractor: Any
    vf_features_extractor: Any
    share_features_extractor: bool
    mlp_extractor: Any
    action_net: Any
    value_net: Any
    get_distribution: Any
    predict_values: Any

    def sparse_parts(self) -> list[Part]:
        """One part for the whole policy, or two if actor and critic have their own settings."""
        assert isinstance(self, nn.Module)
        shared = self.share_features_extractor
        extractor = "features_extractor" if shared else "vf_features_extractor"
        chains = (
            ("features_extractor", "mlp_extractor.policy_net", "action_net"),
            (extractor, "mlp_extractor.value_net", "value_net"),
        )
        roles = roles_of(self, chains)
        if not self.sparse.split:
            return [Part("policy", self, self.optimizer, roles, self.sparse.actor)]
        actor = {
            "features_extractor": "features_extractor",
            "policy_net": "mlp_extractor.policy_net",
            "action_net": "action_net",
        }
        critic = {"value_net": "mlp_extractor.value_net", "output": "value_net"}
        if not shared:
            critic["features_extractor"] = "vf_features_extractor"
        self.sparse_actor = NetworkView(self, actor)
        self.sparse_critic = NetworkView(self, critic)
        return [
            Part("actor", self.sparse_actor, self.optimizer, roles, self.sparse.actor),
            Part("critic", self.sparse_critic, self.optimizer, roles, self.sparse.critic),
        ]

    def evaluate_actions(self, obs: Any, actions: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return values, log-likelihood and entropy of actions, as Stable-Baselines3 does."""
        found = None if args or kwargs else evaluated(self, obs)
        if found is None:
            return super().evaluate_actions(obs, actions, *args, **kwargs)  # type: ignore[misc]
        distribution, values = found
        return values, distribution.log_prob(actions), distribution.entropy()

    def act(self, observations: Any) -> None:
        """Compute the distribution of actions."""
        self.get_distribution(observations)

    def run_networks(self, observations: Any, actions: Tensor) -> None:
        """Compute distribution and value."""
        self.get_distribution(observations)
        self.predict_values(observations)


class SparseActorCriticPolicy(SparseActorAndValue, ActorCriticPolicy):
    """The policy of PPO and A2C, sparse."""


class SparseActorCriticCnnPolicy(SparseActorCriticPolicy, ActorCriticCnnPolicy):
    """The policy of PPO and A2C for images, sparse."""


class SparseMultiInputActorCriticPolicy(SparseActorCriticPolicy, MultiInputActorCriticPolicy):
    """The policy of PPO and A2C for dictionaries, sparse."""
