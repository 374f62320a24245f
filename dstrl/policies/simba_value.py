"""SimBa's networks for PPO and A2C, sparse; see `dstrl.policies.simba`."""

from __future__ import annotations

from typing import Any

from torch import nn

from dstrl.policies.actor_value import SparseActorCriticPolicy
from dstrl.policies.residual import initialise, trunk
from dstrl.policies.simba import SimbaDefaults


class SparseSimbaActorCriticPolicy(SimbaDefaults, SparseActorCriticPolicy):
    """The policy of PPO and A2C with SimBa's networks, sparse.

    The heads are initialised as Stable-Baselines3 does (`ortho_init`), the trunks as SimBa.
    """

    critic_key = "vf"

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        arch = self.net_arch
        widths = arch if isinstance(arch, dict) else {"pi": arch, "vf": arch}
        for key, name in (("pi", "policy_net"), ("vf", "value_net")):
            modules = trunk(self.features_dim, widths.get(key, []), self.activation_fn, self.block)
            setattr(self.mlp_extractor, name, nn.Sequential(*modules).to(self.device))

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        for trunk_ in (self.mlp_extractor.policy_net, self.mlp_extractor.value_net):
            initialise(trunk_)
