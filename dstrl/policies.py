"""Sparse policies for PPO, A2C, DQN, SAC, TD3 and DDPG: for vectors, images and dictionaries.

    PPO(SparseActorCriticPolicy, env, policy_kwargs=dict(sparse=dict(method="srigl", sparsity=0.9)))

PPO and A2C have one optimizer and one budget for the whole policy, unless actor and critic are
given settings of their own; features extractors that both share then belong to the actor. The other
algorithms have one budget for the actor and one for the critics together.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn import policies as dqn
from stable_baselines3.sac import policies as sac
from stable_baselines3.td3 import policies as td3
from torch import Tensor, nn

from dstrl.mixin import Part, SparsePolicy
from dstrl.nets import SparseQNetwork, SparseSACActor, SparseTD3Actor
from dstrl.roles import Roles, roles_of
from dstrl.views import NetworkView


class SparseActorAndValue(SparsePolicy):
    """What the policies of PPO and its kin have in common: one optimizer for actor and critic."""

    typical_batch = 64
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


class SparseTD3CnnPolicy(SparseTD3Policy, td3.CnnPolicy):
    """The policy of TD3 and DDPG for images, sparse."""


class SparseTD3MultiInputPolicy(SparseTD3Policy, td3.MultiInputPolicy):
    """The policy of TD3 and DDPG for dictionaries, sparse."""


class SparseDQNPolicy(SparsePolicy, dqn.DQNPolicy):
    """DQN's policy, sparse.

    Its target is a copy that stands still between two hard updates, so it keeps the topology of the
    last one (`target="copy"`).
    """

    target_rule = "copy"
    typical_batch = 32
    q_net: SparseQNetwork

    def sparse_parts(self) -> list[Part]:
        """The Q-network with its target."""
        roles = roles_of(self.q_net, self.q_net.sparse_chains)
        return [
            Part("q_net", self.q_net, self.optimizer, roles, self.sparse.critic, self.q_net_target)
        ]

    def act(self, observations: Any) -> None:
        """Compute the values of the actions."""
        self.q_net(observations)

    def run_networks(self, observations: Any, actions: Tensor) -> None:
        """Compute the values of the actions."""
        self.q_net(observations)

    def make_q_net(self) -> SparseQNetwork:
        """Build the Q-network or its target, dense still."""
        kwargs = self._update_features_extractor(self.net_args, features_extractor=None)
        return SparseQNetwork(**kwargs).to(self.device)


class SparseDQNCnnPolicy(SparseDQNPolicy, dqn.CnnPolicy):
    """DQN's policy for images, sparse."""


class SparseDQNMultiInputPolicy(SparseDQNPolicy, dqn.MultiInputPolicy):
    """DQN's policy for dictionaries, sparse."""


def _critic_roles(critic: nn.Module) -> Roles:
    heads = [name for name, _ in critic.named_children() if name.startswith("qf")]
    return roles_of(critic, [("features_extractor", head) for head in heads])


POLICIES: dict[type[Any], tuple[type[BasePolicy], type[BasePolicy], type[BasePolicy]]] = {
    PPO: (
        SparseActorCriticPolicy,
        SparseActorCriticCnnPolicy,
        SparseMultiInputActorCriticPolicy,
    ),
    A2C: (
        SparseActorCriticPolicy,
        SparseActorCriticCnnPolicy,
        SparseMultiInputActorCriticPolicy,
    ),
    SAC: (SparseSACPolicy, SparseSACCnnPolicy, SparseSACMultiInputPolicy),
    TD3: (SparseTD3Policy, SparseTD3CnnPolicy, SparseTD3MultiInputPolicy),
    DQN: (SparseDQNPolicy, SparseDQNCnnPolicy, SparseDQNMultiInputPolicy),
}
"""Algorithm -> its policies for vectors, images and dictionaries; DDPG shares TD3's."""

NAMES = ("SparseMlpPolicy", "SparseCnnPolicy", "SparseMultiInputPolicy")


def register() -> None:
    """Make the policies known to their algorithms by `NAMES`, sb3-contrib's too if it is there."""
    for algorithm, policies in POLICIES.items():
        algorithm.policy_aliases.update(zip(NAMES, policies, strict=True))
    if importlib.util.find_spec("sb3_contrib") is not None:
        importlib.import_module("dstrl.contrib").register()
