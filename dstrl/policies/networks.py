"""Sparse forms of the networks that Stable-Baselines3 saves on their own: `actor.save(path)`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.dqn.policies import QNetwork
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.td3.policies import Actor as TD3Actor
from torch import nn

from dstrl.policies.devices import FollowsDevice
from dstrl.policies.modes import QuickModes
from dstrl.policies.roles import named, roles_of
from sparse_core import sparsify
from sparse_core.config import SparseConfig
from sparse_core.layers.branches import run_branches
from sparse_core.layers.choice import TYPICAL_BATCH
from sparse_core.layers.dense import become_dense
from sparse_core.layers.state import Condensed


class SparseNet(QuickModes, FollowsDevice):
    """Mixin: a network that is made again from its file with the masks it had.

    Inside a policy it is built dense, and the policy makes it sparse when its optimizer is there.
    """

    sparse_chains: Sequence[Sequence[str]] = ()

    def __init__(
        self,
        *args: Any,
        sparse: SparseConfig | None = None,
        sparse_batch: int = TYPICAL_BATCH,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if sparse is not None:
            assert isinstance(self, nn.Module)
            roles = named(self, roles_of(self, self.sparse_chains))
            sparsify(self, sparse, roles=roles, batch=sparse_batch)
            floats(self)

    def load_from_vector(self, vector: Any) -> None:
        """Load all parameters from a vector; what it has for inactive weights does not count."""
        super().load_from_vector(torch.as_tensor(vector).clone())  # type: ignore[misc]
        engine = getattr(self, "sparse_engine", None)
        if engine is not None:
            engine.enforce()

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        engine = getattr(self, "sparse_engine", None)
        if engine is not None:
            data["sparse"] = engine.config
            data["sparse_batch"] = engine.batch
            data["features_extractor"] = dense_copy(data["features_extractor"])
        return data


class SparseSACActor(SparseNet, SACActor):
    """SAC's actor."""

    sparse_chains = (
        ("features_extractor", "latent_pi", "mu"),
        ("features_extractor", "latent_pi", "log_std"),
    )


class SparseTD3Actor(SparseNet, TD3Actor):
    """The actor of TD3 and DDPG."""

    sparse_chains = (("features_extractor", "mu"),)


class SparseCritic(QuickModes, ContinuousCritic):
    """The critics of SAC, TD3 and DDPG, which are not saved on their own."""

    def forward(self, obs: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the values of all critics, `(batch, 1)` each, which read their input together."""
        with torch.set_grad_enabled(not self.share_features_extractor):
            features = self.extract_features(obs, self.features_extractor)
        return run_branches(self.q_networks, torch.cat([features, actions], dim=1))


class SparseQNetwork(SparseNet, QNetwork):
    """DQN's network."""

    sparse_chains = (("features_extractor", "q_net"),)


def floats(root: nn.Module) -> None:
    """Make all entries of a module's state floats, as Stable-Baselines3 expects them."""
    for layer in root.modules():
        if isinstance(layer, Condensed):
            layer.floats()


def dense_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose sparse layers are dense again, with the weights they had."""
    copied = copy.deepcopy(module)
    become_dense(copied, latent=True)
    return copied
