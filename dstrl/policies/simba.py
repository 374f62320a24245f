"""SimBa's networks for SAC, TD3 and DDPG, sparse (Lee et al. 2025, "SimBa", ICLR; section 4).

Observations are normalised by running statistics, networks are residual
(`dstrl.policies.residual`), and the optimizer is AdamW with a decay of 0.01. `net_arch` has one
entry for each block, all of one width:

    SAC("SparseSimbaPolicy", env, policy_kwargs=dict(
        net_arch=dict(pi=[128], qf=[512, 512]),     # the default: one block of 128, two of 512
        block="simba",                              # or "bro"
        sparse=dict(method="static", sparsity=0.8)))

Learning rate (1e-4), update ratio (2) and target entropy are the algorithm's; the preset `simba`
has them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim, is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.td3.policies import Actor as TD3Actor
from torch import nn

from dstrl.policies.actor_critics import SparseActorAndCritics, SparseSACPolicy, SparseTD3Policy
from dstrl.policies.networks import SparseCritic, SparseNet, SparseSACActor, SparseTD3Actor
from dstrl.policies.normalising import RunningNormalisation
from dstrl.policies.residual import head, trunk
from sparse_core.checks import InputError

ACTOR, CRITIC = (128,), (512, 512)
"""Widths of the blocks (SimBa, table 5)."""

DECAY = 1e-2


class SimbaDefaults:
    """Mixin for a policy: SimBa's normalisation, widths and optimizer unless others are given.

    Args:
        block: One of `dstrl.policies.residual.BLOCKS`.
        net_arch: Widths of the blocks, as Stable-Baselines3 takes them.

    Raises:
        InputError: If observations are images or dictionaries, or widths of a network differ.
    """

    critic_key = "qf"
    optimizer_defaults: ClassVar[dict[str, Any]] = {"weight_decay": DECAY}

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Any,
        net_arch: Any = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        *args: Any,
        block: str = "simba",
        features_extractor_class: type[BaseFeaturesExtractor] = RunningNormalisation,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.AdamW,
        optimizer_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if features_extractor_class is RunningNormalisation:
            check_vectors(observation_space)
        if net_arch is None:
            net_arch = {"pi": list(ACTOR), self.critic_key: list(CRITIC)}
        if optimizer_kwargs is None and optimizer_class is torch.optim.AdamW:
            optimizer_kwargs = dict(self.optimizer_defaults)
        self.block = block
        super().__init__(  # type: ignore[call-arg]
            observation_space,
            action_space,
            lr_schedule,
            net_arch,
            activation_fn,
            *args,
            features_extractor_class=features_extractor_class,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            **kwargs,
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        return data | {"block": self.block}


def check_vectors(space: spaces.Space[Any]) -> None:
    """Refuse observations that are no vectors, and say which policy is for them."""
    other = None
    if isinstance(space, spaces.Dict):
        other = "dictionaries", "SparseMultiInputPolicy"
    elif is_image_space(space):
        other = "images", "SparseCnnPolicy"
    if other is not None:
        raise InputError(
            f"policy='SparseSimbaPolicy': is for vectors, and the observations are {other[0]}; use "
            f"{other[1]!r}",
            field="policy",
        )


class ResidualNet:
    """Mixin for an actor: what its residual networks are made of is part of its file."""

    block: str

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        return data | {"block": self.block}


class ResidualLatent(ResidualNet):
    """Mixin for an actor with `latent_pi` and Gaussian heads: the former is residual."""

    features_dim: int
    net_arch: list[int]
    activation_fn: type[nn.Module]

    def __init__(self, *args: Any, block: str = "simba", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.block = block
        modules = trunk(self.features_dim, self.net_arch, self.activation_fn, block)
        self.latent_pi = nn.Sequential(*modules)


class SimbaSACActor(SparseNet, ResidualLatent, SACActor):
    """SAC's actor, residual."""

    sparse_chains = SparseSACActor.sparse_chains


class ResidualMean(ResidualNet):
    """Mixin for TD3's actor: its network is residual."""

    action_space: Any
    features_dim: int
    net_arch: list[int]
    activation_fn: type[nn.Module]
    mu: Any

    def __init__(self, *args: Any, block: str = "simba", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.block = block
        modules = trunk(self.features_dim, self.net_arch, self.activation_fn, block)
        width, *_ = [*self.net_arch[-1:], self.features_dim]
        actions = get_action_dim(self.action_space)
        self.mu = nn.Sequential(*modules, head(width, actions), nn.Tanh())


class SimbaTD3Actor(SparseNet, ResidualMean, TD3Actor):
    """The actor of TD3 and DDPG, residual."""

    sparse_chains = SparseTD3Actor.sparse_chains


class ResidualCritic:
    """Mixin for critics `qf0`, `qf1`, ...: each is residual from observation and action on."""

    action_space: Any
    q_networks: Any

    def __init__(
        self,
        *,
        net_arch: list[int],
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        block: str = "simba",
        **kwargs: Any,
    ) -> None:
        super().__init__(  # type: ignore[call-arg]
            net_arch=net_arch, features_dim=features_dim, activation_fn=activation_fn, **kwargs
        )
        inputs = features_dim + get_action_dim(self.action_space)
        width, *_ = [*net_arch[-1:], inputs]
        for i, built in enumerate(self.q_networks):
            outputs = built[-1].out_features
            modules = trunk(inputs, net_arch, activation_fn, block)
            self.q_networks[i] = nn.Sequential(*modules, head(width, outputs))
            setattr(self, f"qf{i}", self.q_networks[i])


class SimbaCritic(ResidualCritic, SparseCritic):
    """The critics of SAC, TD3 and DDPG, residual."""


class SimbaActorAndCritics(SimbaDefaults, SparseActorAndCritics):
    """Mixin for an off-policy policy: makes residual actors and critics."""

    actor_type: type[Any]
    critic_type: type[Any] = SimbaCritic

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Build the actor or its target, dense still."""
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return self.actor_type(**kwargs, block=self.block).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Build the critics or their targets, dense still."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return self.critic_type(**kwargs, block=self.block).to(self.device)


class SparseSimbaSACPolicy(SimbaActorAndCritics, SparseSACPolicy):
    """SAC's policy with SimBa's networks, sparse."""

    actor_type = SimbaSACActor


class SparseSimbaTD3Policy(SimbaActorAndCritics, SparseTD3Policy):
    """The policy of TD3 and DDPG with SimBa's networks, sparse."""

    actor_type = SimbaTD3Actor
