"""What a policy's `sparse` argument says: one configuration, or two for actor and critic.

In Python:

    sparse=dict(method="rigl", sparsity=0.9)                          both alike, one budget
    sparse=dict(actor_sparsity=0.95, critic_method="static", ...)     each on its own
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparse_core.checks import InputError, at_least, one_of
from sparse_core.config import SparseConfig

TARGET_RULES = ("online", "copy", "density", "union")
MASKED_RULES = ("density", "union")
"""Rules whose targets have a topology of their own, which condensed layers have no room for."""

STATIC_METHOD = "static"
"""The method whose masks never move."""

OWN_KEYS = ("target", "batch")

SPLIT_KEYS = (
    "actor_sparsity",
    "critic_sparsity",
    "actor_method",
    "critic_method",
    "actor_layer_sparsity",
    "critic_layer_sparsity",
)


@dataclass(frozen=True)
class Settings:
    """The sparsity of a policy's networks.

    Attributes:
        actor: Of the network that acts, or of the whole policy where there is one budget.
        critic: Of the value networks.
        split: Whether actor and critic of one optimizer (PPO, A2C) have separate budgets.
        target: How target networks follow, see `dstrl.policies.targets`; None: the policy's own
            default.
        batch: Samples of a training batch, which `backend="auto"` asks for; None: as many as the
            policy's algorithms have by default.
    """

    actor: SparseConfig
    critic: SparseConfig
    split: bool = False
    target: str | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.target is not None:
            one_of("target", self.target, TARGET_RULES)
        if self.batch is not None:
            at_least("batch", self.batch, 1)
        if self.target in MASKED_RULES and "condensed" in (self.actor.backend, self.critic.backend):
            raise InputError(
                f"target={self.target!r}: its targets have a topology of their own, which needs "
                "backend masked or auto; condensed layers can have online or copy",
                field="target",
            )

    @classmethod
    def read(cls, sparse: Settings | SparseConfig | Mapping[str, Any] | None) -> Settings:
        """Read what a user gave.

        A mapping without `seed` takes the seed that torch was given, so that runs with different
        seeds have different masks; nothing is drawn from torch's stream for it. Without `backend`
        it gets `auto`.

        Raises:
            ValueError: On an unknown key or a bad value, in one line.
        """
        if isinstance(sparse, Settings):
            return sparse
        if isinstance(sparse, SparseConfig):
            return cls(sparse, sparse)
        if sparse is not None and not isinstance(sparse, Mapping):
            raise InputError(
                f"sparse={sparse!r}: must be a mapping or a SparseConfig", field="sparse"
            )
        values = {"backend": "auto"} | dict(sparse or {})
        if "seed" not in values:
            import torch

            values["seed"] = torch.initial_seed() % 2**32
        own = {key: values.pop(key) for key in OWN_KEYS if key in values}
        special = {key: values.pop(key) for key in SPLIT_KEYS if key in values}
        known = [field.name for field in dataclasses.fields(SparseConfig)]
        unknown = sorted(set(values) - set(known), key=str)
        if unknown:
            allowed = ", ".join([*known, *SPLIT_KEYS, *OWN_KEYS])
            raise InputError(
                f"sparse={unknown[0]!r}: unknown key; there are {allowed}", field="sparse"
            )
        actor, critic = (_config(role, values, special) for role in ("actor", "critic"))
        return cls(actor, critic, split=bool(special), **own)

    def dense(self) -> Settings:
        """Return the settings of dense networks."""
        config = self.actor.as_dense(self.actor.seed)
        return Settings(config, config, target=self.target, batch=self.batch)

    def static(self) -> Settings:
        """Return the settings of random masks of the final budgets, which never move."""
        actor, critic = (_static(config) for config in (self.actor, self.critic))
        return dataclasses.replace(self, actor=actor, critic=critic)

    def masked(self) -> Settings:
        """Return the settings of networks without condensed layers."""
        actor, critic = (
            dataclasses.replace(c, backend="masked") for c in (self.actor, self.critic)
        )
        return dataclasses.replace(self, actor=actor, critic=critic)

    def with_seed(self, seed: int) -> Settings:
        """Return the settings with another seed."""
        actor, critic = (dataclasses.replace(c, seed=seed) for c in (self.actor, self.critic))
        return dataclasses.replace(self, actor=actor, critic=critic)


def _static(config: SparseConfig) -> SparseConfig:
    if not config.facts.sparse:
        return config
    structure = config.structure_in_force
    return dataclasses.replace(
        config, method=STATIC_METHOD, structure=structure, growth=None, scope="layer"
    ).canonical()


def _config(role: str, common: Mapping[str, Any], special: Mapping[str, Any]) -> SparseConfig:
    """Return the configuration of one network; errors name the key that was given."""
    prefix = f"{role}_"
    own = {k.removeprefix(prefix): v for k, v in special.items() if k.startswith(prefix)}
    try:
        return SparseConfig(**dict(common) | own)
    except InputError as error:
        if error.concerns(own):
            raise InputError(f"{prefix}{error}", field=f"{prefix}{error.field}") from None
        raise
