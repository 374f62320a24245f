"""How a target network follows the topology of its online network.

online   the target has the online masks at every moment: a weight that is dropped online is zero in
         the target at once (RLx2, Tan et al. 2023: Polyak averaging, then the online mask)
density  the target keeps its own topology, as many weights as the online layer has: after each
         change of its weights the smallest ones in magnitude go (DS-TD3, Sokar et al. 2022, section
         4.2)
union    the target is averaged or copied and nothing else: dropped weights fade with (1 - tau)^k,
         so its topology is the union of recent online ones. With hard updates (tau = 1) it is the
         online network as it was at the last one, weights and topology (Graesser et al. 2022)
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from sparse_core import Engine


def follow(engine: Engine, online: nn.Module, target: nn.Module, rule: str) -> None:
    """Let a target network follow from now on, beginning with the online network's weights.

    Args:
        engine: Of the online network.
        online: The online network, sparse already.
        target: A network of the same architecture, dense still.
        rule: `online`, `density` or `union`.

    Raises:
        ValueError: If the rule needs dense parameters and the online network has condensed ones.
    """
    if engine.config.backend != "masked" and rule != "online":
        raise ValueError(f"target={rule!r}: backend {engine.config.backend!r} needs 'online'")
    if rule == "online":
        engine.follow(target)
    elif rule == "density":
        target.register_forward_pre_hook(functools.partial(_keep_density, engine))
    with torch.no_grad():
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
