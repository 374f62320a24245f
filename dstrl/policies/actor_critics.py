"""Sparse policies of SAC, TD3 and DDPG: an actor with one budget, critics with another."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3
from torch import Tensor, nn

from dstrl.policies.mixin import Part, SparsePolicy
from dstrl.policies.networks import SparseCritic, SparseSACActor, SparseTD3Actor
from dstrl.policies.roles import Roles, roles_of


class SparseActorAndCritics(SparsePolicy):
    """What the policies of SAC, TD3 and their kin have in common: two networks, two optimizers.

    A features extractor that actor and critic share is the actor's, and so is the topology of its
    copy in the target networks.
    """

    actor: Any
    critic: Any

    def sparse_parts(self) -> list[Part]:
        """The actor and the critics, each with its targets."""
        shared = self.critic.share_features_extractor
        target = getattr(self, "actor_target", None)
        copied = shared and target is None
        return [
            Part(
                "actor",
                self.actor,
                self.actor.optimizer,
                roles_of(self.actor, self.actor.sparse_chains),
                self.sparse.actor,
                target,
                partial_target=getattr(self, "critic_target", None) if copied else None,
                also=(self.critic.optimizer,) if shared else (),
            ),
            Part(
                "critic",
                self.critic,
                self.critic.optimizer,
                _critic_roles(self.critic),
                self.sparse.critic,
                getattr(self, "critic_target", None),
                "features_extractor" if shared else None,
            ),
        ]

    def act(self, observations: Any) -> None:
        """Compute the parameters of the distribution of actions."""
        self.actor.get_action_dist_params(observations)

    def run_networks(self, observations: Any, actions: Tensor) -> None:
        """Compute the actor and the critics."""
        self.act(observations)
        self.critic(observations, actions)


class SparseSACPolicy(SparseActorAndCritics, sac.SACPolicy):
    """SAC's policy, sparse."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> SparseSACActor:
        """Build the actor, dense still."""
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return SparseSACActor(**kwargs).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> SparseCritic:
        """Build the critics or their targets, dense still."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return SparseCritic(**kwargs).to(self.device)


class SparseSACCnnPolicy(SparseSACPolicy, sac.CnnPolicy):
    """SAC's policy for images, sparse."""


class SparseSACMultiInputPolicy(SparseSACPolicy, sac.MultiInputPolicy):
    """SAC's policy for dictionaries, sparse."""


class SparseTD3Policy(SparseActorAndCritics, td3.TD3Policy):
    """The policy of TD3 and DDPG, sparse."""

    def act(self, observations: Any) -> None:
        """Compute the action."""
        self.actor(observations)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> SparseTD3Actor:
        """Build the actor or its target, dense still."""
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return SparseTD3Actor(**kwargs).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> SparseCritic:
        """Build the critics or their targets, dense still."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return SparseCritic(**kwargs).to(self.device)


class SparseTD3CnnPolicy(SparseTD3Policy, td3.CnnPolicy):
    """The policy of TD3 and DDPG for images, sparse."""


class SparseTD3MultiInputPolicy(SparseTD3Policy, td3.MultiInputPolicy):
    """The policy of TD3 and DDPG for dictionaries, sparse."""


def _critic_roles(critic: nn.Module) -> Roles:
    heads = [name for name, _ in critic.named_children() if name.startswith("qf")]
    return roles_of(critic, [("features_extractor", head) for head in heads])
