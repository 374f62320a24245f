"""Sparse policies for sb3-contrib's TQC, QR-DQN, CrossQ, TRPO, RecurrentPPO and MaskablePPO.

sb3-contrib is optional (`pip install sb3-contrib`); `dstrl.register()` makes these known by name
when it is installed. LSTMs stay dense, the layers before and after them become sparse.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from sb3_contrib.common.maskable import policies as maskable
from sb3_contrib.common.recurrent import policies as recurrent
from sb3_contrib.crossq import policies as crossq
from sb3_contrib.qrdqn import policies as qrdqn
from sb3_contrib.tqc import policies as tqc
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from dstrl.policies.actor_critics import SparseActorAndCritics
from dstrl.policies.actor_value import (
    SparseActorAndValue,
    SparseActorCriticCnnPolicy,
    SparseActorCriticPolicy,
    SparseMultiInputActorCriticPolicy,
)
from dstrl.policies.mixin import Part, SparsePolicy
from dstrl.policies.networks import SparseNet, SparseSACActor
from dstrl.policies.renorm import make_safe
from dstrl.policies.roles import roles_of
from sparse_core.checks import InputError
from sparse_core.updaters import updater_for


class SparseTQCActor(SparseNet, tqc.Actor):
    """TQC's actor."""

    sparse_chains = SparseSACActor.sparse_chains


class SparseTQCPolicy(SparseActorAndCritics, tqc.TQCPolicy):
    """TQC's policy, sparse."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> SparseTQCActor:
        """Build the actor, dense still."""
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return SparseTQCActor(**kwargs).to(self.device)


class SparseTQCCnnPolicy(SparseTQCPolicy, tqc.CnnPolicy):
    """TQC's policy for images, sparse."""


class SparseTQCMultiInputPolicy(SparseTQCPolicy, tqc.MultiInputPolicy):
    """TQC's policy for dictionaries, sparse."""


class SparseCrossQActor(SparseNet, crossq.Actor):
    """CrossQ's actor."""

    sparse_chains = SparseSACActor.sparse_chains

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        make_safe(self)


class SparseCrossQPolicy(SparseActorAndCritics, crossq.CrossQPolicy):
    """CrossQ's policy, sparse; it has no target networks."""

    def make_actor(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> SparseCrossQActor:
        """Build the actor, dense still."""
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return SparseCrossQActor(**kwargs).to(self.device)

    def make_critic(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> crossq.CrossQCritic:
        """Build the critics, dense still."""
        critic = super().make_critic(features_extractor)
        make_safe(critic)
        return critic


class SparseQuantileNetwork(SparseNet, qrdqn.QuantileNetwork):
    """QR-DQN's network."""

    sparse_chains = (("features_extractor", "quantile_net"),)


class SparseQRDQNPolicy(SparsePolicy, qrdqn.QRDQNPolicy):
    """QR-DQN's policy, sparse; its target is a copy as in DQN."""

    target_rule = "copy"
    typical_batch = 32
    quantile_net: SparseQuantileNetwork

    def sparse_parts(self) -> list[Part]:
        """The quantile network with its target."""
        net = self.quantile_net
        roles = roles_of(net, net.sparse_chains)
        target = self.quantile_net_target
        return [Part("q_net", net, self.optimizer, roles, self.sparse.critic, target)]

    def act(self, observations: Any) -> None:
        """Compute the quantiles."""
        self.quantile_net(observations)

    def run_networks(self, observations: Any, actions: Tensor) -> None:
        """Compute the quantiles."""
        self.quantile_net(observations)

    def make_quantile_net(self) -> SparseQuantileNetwork:
        """Build the network or its target, dense still."""
        kwargs = self._update_features_extractor(self.net_args, features_extractor=None)
        return SparseQuantileNetwork(**kwargs).to(self.device)


class SparseQRDQNCnnPolicy(SparseQRDQNPolicy, qrdqn.CnnPolicy):
    """QR-DQN's policy for images, sparse."""


class SparseQRDQNMultiInputPolicy(SparseQRDQNPolicy, qrdqn.MultiInputPolicy):
    """QR-DQN's policy for dictionaries, sparse."""


class SparseTRPOPolicy(SparseActorCriticPolicy):
    """TRPO's policy, sparse.

    TRPO's optimizer trains the critic only, its actor moves by a line search. So the actor's
    topology is updated on the critic's steps, and cannot grow by gradients. The search needs second
    derivatives, which condensed layers compute with dense weights: masks are faster.

    Raises:
        ValueError: If the actor's method needs gradients, or its backend is `condensed`.
    """

    typical_batch = 128

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_state_dict_pre_hook(_enforce)  # type: ignore[no-untyped-call]

    def sparse_parts(self) -> list[Part]:
        """The actor and the critic, or the whole policy."""
        updater = updater_for(self.sparse.actor)
        if updater is not None and updater.needs != "nothing":
            raise InputError(
                f"method={self.sparse.actor.method!r}: TRPO's actor has no gradients to move by; "
                "set actor_method to dense, static or set",
                field="method",
            )
        if self.sparse.actor.backend == "condensed" and self.sparse.actor.facts.sparse:
            raise InputError(
                "backend='condensed': TRPO's actor needs second derivatives, which condensed "
                "layers compute with dense weights; use masked or auto",
                field="backend",
            )
        first, *others = super().sparse_parts()
        masked = dataclasses.replace(first.config, backend="masked")
        return [dataclasses.replace(first, config=masked), *others]


def _enforce(policy: SparseTRPOPolicy, prefix: str, keep_vars: bool) -> None:
    """Zero what the line search left outside the masks: rounding, which the masks keep unread."""
    for engine in policy.sparse_engines.values():
        engine.enforce()


class SparseTRPOCnnPolicy(SparseTRPOPolicy, SparseActorCriticCnnPolicy):
    """TRPO's policy for images, sparse."""


class SparseTRPOMultiInputPolicy(SparseTRPOPolicy, SparseMultiInputActorCriticPolicy):
    """TRPO's policy for dictionaries, sparse."""


class SparseRecurrentPolicy(SparseActorCriticPolicy, recurrent.RecurrentActorCriticPolicy):
    """RecurrentPPO's policy, sparse but for its LSTMs."""

    typical_batch = 128

    def sparse_parts(self) -> list[Part]:
        """One part for the whole policy; what follows an LSTM is no input layer."""
        if self.sparse.split:
            raise InputError("actor_sparsity, critic_sparsity: RecurrentPPO has one budget for all")
        extractor = (
            "features_extractor" if self.share_features_extractor else "vf_features_extractor"
        )
        chains = (
            ("features_extractor", "mlp_extractor.policy_net", "action_net"),
            (extractor, "critic", "mlp_extractor.value_net", "value_net"),
        )
        roles = roles_of(self, chains)
        behind_lstm = set(self.mlp_extractor.modules())
        roles = {
            layer: "hidden" if role == "input" and layer in behind_lstm else role
            for layer, role in roles.items()
        }
        memories = [name for name, m in self.named_modules() if isinstance(m, nn.LSTM)]
        config = self.sparse.actor
        config = dataclasses.replace(config, dense=(*config.dense, *memories))
        return [Part("policy", self, self.optimizer, roles, config)]

    def act(self, observations: Any) -> None:
        """Compute the distribution of actions, from a fresh memory."""
        self.get_distribution(observations, self._memory(), self._starts(observations))

    def run_networks(self, observations: Any, actions: Tensor) -> None:
        """Compute distribution and value, from a fresh memory."""
        self.act(observations)
        self.predict_values(observations, self._memory(), self._starts(observations))

    def _memory(self) -> Any:
        zeros = torch.zeros(self.lstm_hidden_state_shape, device=self.device)
        return (zeros, zeros)

    def _starts(self, observations: Any) -> Tensor:
        first = (
            next(iter(observations.values())) if isinstance(observations, dict) else observations
        )
        return torch.zeros(len(first), device=self.device)


class SparseRecurrentCnnPolicy(SparseRecurrentPolicy, recurrent.RecurrentActorCriticCnnPolicy):
    """RecurrentPPO's policy for images, sparse but for its LSTMs."""


class SparseRecurrentMultiInputPolicy(
    SparseRecurrentPolicy, recurrent.RecurrentMultiInputActorCriticPolicy
):
    """RecurrentPPO's policy for dictionaries, sparse but for its LSTMs."""


class SparseMaskablePolicy(SparseActorAndValue, maskable.MaskableActorCriticPolicy):
    """MaskablePPO's policy, sparse. The masks in its name are those of invalid actions."""


class SparseMaskableCnnPolicy(SparseMaskablePolicy, maskable.MaskableActorCriticCnnPolicy):
    """MaskablePPO's policy for images, sparse."""


class SparseMaskableMultiInputPolicy(
    SparseMaskablePolicy, maskable.MaskableMultiInputActorCriticPolicy
):
    """MaskablePPO's policy for dictionaries, sparse."""
