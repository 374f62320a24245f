"""How a target network follows the topology of its online network.

    online   the target has the online masks at every moment: a weight that is dropped online is
             zero in the target at once (RLx2, Tan et al. 2023: Polyak averaging, then the online
             mask)
    copy     the target stands still between two updates of its own and takes the online masks with
             each. With hard updates (tau = 1) it is the online network as it was at the last one,
             weights and topology (Graesser et al. 2022)
    density  the target keeps its own topology, as many weights as the online layer has: after each
             change of its weights the smallest ones in magnitude go (DS-TD3, Sokar et al. 2022,
             section 4.2)
    union    the target is averaged and nothing else: dropped weights fade with (1 - tau)^k, so its
             topology is the union of recent online ones

`online` and `copy` work with both backends. The other two need masked layers: with them `auto`
condenses nothing, and `condensed` is refused.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from dstrl.settings import MASKED_RULES
from sparse_core import Engine
from sparse_core.checks import InputError


def follow(engine: Engine, online: nn.Module, target: nn.Module, rule: str) -> None:
    """Let a target network follow from now on, beginning with the online network's weights.

    Args:
        engine: Of the online network.
        online: The online network, sparse already.
        target: A network of the same architecture, dense still.
        rule: `online`, `copy`, `density` or `union`.

    Raises:
        ValueError: If the rule needs zeros to tell the topology, but inactive weights have values.
    """
    if rule in MASKED_RULES and engine.config.facts.latent:
        raise InputError(
            f"target={rule!r}: method {engine.config.method!r} needs 'online' or 'copy', its "
            "inactive weights keep values",
            field="target",
        )
    if rule not in MASKED_RULES:
        engine.follow(target, lagging=rule == "copy")
    elif rule == "density":
        target.register_forward_pre_hook(functools.partial(_keep_density, engine))
    begin_alike(online, target)


def follow_in_part(engine: Engine, target: nn.Module, rule: str) -> None:
    """Let the layers of a target that are copies of an engine's follow, by `online` or `copy`.

    Args:
        engine: Of the online network.
        target: A module with some of its layers, under the same names, dense still.
        rule: As for `follow`; by the other rules the copies are averaged only.
    """
    if rule not in MASKED_RULES:
        engine.follow(target, lagging=rule == "copy", partial=True)


@torch.no_grad()
def begin_alike(online: nn.Module, target: nn.Module) -> None:
    """Give a target the online parameters."""
    for copy, parameter in zip(target.parameters(), online.parameters(), strict=True):
        copy.copy_(parameter)


@torch.no_grad()
def _keep_density(engine: Engine, target: nn.Module, args: Any) -> None:
    """Zero a target's smallest weights, before it is used, until it has as many as online."""
    for tensor in engine.tensors:
        flat = target.get_parameter(tensor.name).view(-1)
        excess = int(flat.count_nonzero()) - tensor.count()
        if excess > 0:
            magnitudes = flat.abs().masked_fill(flat == 0, torch.inf)
            flat[magnitudes.topk(excess, largest=False).indices] = 0
