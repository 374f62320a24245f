"""Sparse policies of DQN: one network for the values of the actions."""

from __future__ import annotations

from typing import Any

from stable_baselines3.dqn import policies as dqn
from torch import Tensor

from dstrl.policies.mixin import Part, SparsePolicy
from dstrl.policies.networks import SparseQNetwork
from dstrl.policies.roles import roles_of


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
