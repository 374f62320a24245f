"""SimBa's networks for sb3-contrib's TQC and CrossQ, sparse; see `dstrl.policies.simba`."""

from __future__ import annotations

from typing import Any, ClassVar

from sb3_contrib.crossq import policies as crossq
from sb3_contrib.tqc import policies as tqc

from dstrl.policies.contrib import SparseCrossQPolicy, SparseTQCPolicy
from dstrl.policies.networks import SparseNet, SparseSACActor
from dstrl.policies.simba import DECAY, ResidualCritic, ResidualLatent, SimbaActorAndCritics


class SimbaTQCActor(SparseNet, ResidualLatent, tqc.Actor):
    """TQC's actor, residual."""

    sparse_chains = SparseSACActor.sparse_chains


class SimbaTQCCritic(ResidualCritic, tqc.Critic):
    """TQC's critics of quantiles, residual."""


class SparseSimbaTQCPolicy(SimbaActorAndCritics, SparseTQCPolicy):
    """TQC's policy with SimBa's networks, sparse."""

    actor_type = SimbaTQCActor
    critic_type = SimbaTQCCritic


class SimbaCrossQActor(SparseNet, ResidualLatent, crossq.Actor):
    """CrossQ's actor, residual; LayerNorm takes the place of batch renormalisation."""

    sparse_chains = SparseSACActor.sparse_chains


class SimbaCrossQCritic(ResidualCritic, crossq.CrossQCritic):
    """CrossQ's critics, residual; LayerNorm takes the place of batch renormalisation."""


class SparseSimbaCrossQPolicy(SimbaActorAndCritics, SparseCrossQPolicy):
    """CrossQ's policy with SimBa's networks, sparse."""

    actor_type = SimbaCrossQActor
    critic_type = SimbaCrossQCritic
    optimizer_defaults: ClassVar[dict[str, Any]] = {"weight_decay": DECAY, "betas": (0.5, 0.999)}
