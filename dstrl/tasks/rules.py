"""What a policy for tasks in sequence can be asked for: isolation, sharing and which methods.

This module imports no torch, so that a sweep's driver can check a run at no cost.
"""

from __future__ import annotations

import dataclasses

from dstrl.settings import MASKED_RULES, Settings
from sparse_core.checks import InputError, one_of

ISOLATION = ("hard", "none", "apart")
WEIGHT_SHARING = ("none", "reuse")


def supported(settings: Settings, isolation: str, share: str) -> Settings:
    """Return the settings with masked layers.

    Args:
        settings: Of the policy.
        isolation: As in `dstrl.tasks.mixin.ContinualPolicy`.
        share: As there.

    Raises:
        ValueError: In one line, if tasks cannot be kept apart with these settings.
    """
    one_of("isolation", isolation, ISOLATION)
    one_of("share", share, WEIGHT_SHARING)
    if settings.target in MASKED_RULES:
        raise InputError(
            f"target={settings.target!r}: targets start anew with each task: online", field="target"
        )
    for config in (settings.actor, settings.critic):
        method = config.facts
        if config.backend == "condensed":
            raise InputError(
                "backend='condensed': tasks in sequence need masked layers", field="backend"
            )
        if method.latent or config.density_moves:
            raise InputError(
                f"method={config.method!r}: writes weights outside its masks, as tasks must not",
                field="method",
            )
        if method.sparse and isolation == "apart":
            raise InputError(
                f"method={config.method!r}: isolation='apart' gives each task a dense network of "
                "its own; method='dense'",
                field="method",
            )
        if not method.sparse and isolation == "hard":
            raise InputError(
                f"method={config.method!r}: leaves no room for a second task; isolation='none'",
                field="method",
            )
    actor, critic = (
        dataclasses.replace(config, backend="masked")
        for config in (settings.actor, settings.critic)
    )
    return dataclasses.replace(settings, actor=actor, critic=critic)
