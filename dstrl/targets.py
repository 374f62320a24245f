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
from sparse_core.config import SparseConfig
from sparse_core.registry import METHODS


def follow(engine: Engine, online: nn.Module, target: nn.Module, rule: str) -> None:
    """Let a target network follow from now on, beginning with the online network's weights.

    Args:
        engine: Of the online network.
        online: The online network, sparse already.
        target: A network of the same architecture, dense still.
        rule: `online`, `density` or `union`.

    Raises:
        ValueError: If the rule is not `online` and the online network `needs_masks`.
    """
    if rule != "online" and needs_masks(engine.config):
        raise ValueError(
            f"target={rule!r}: method {engine.config.method!r} with backend "
            f"{engine.config.backend!r} needs 'online'"
        )
    if rule == "online":
        engine.follow(target)
    elif rule == "density":
        target.register_forward_pre_hook(functools.partial(_keep_density, engine))
    with torch.no_grad():
        for copy, parameter in zip(target.parameters(), online.parameters(), strict=True):
            copy.copy_(parameter)


def needs_masks(config: SparseConfig) -> bool:
    """Whether zeros do not tell the topology: inactive weights have values, or no place at all."""
    return METHODS[config.method].latent or config.backend != "masked"


@torch.no_grad()
def _keep_density(engine: Engine, target: nn.Module, args: Any) -> None:
    """Zero a target's smallest weights, before it is used, until it has as many as online."""
    for tensor in engine.tensors:
        flat = target.get_parameter(tensor.name).view(-1)
        excess = int(flat.count_nonzero()) - tensor.count()
        if excess > 0:
            magnitudes = flat.abs().masked_fill(flat == 0, torch.inf)
            flat[magnitudes.topk(excess, largest=False).indices] = 0
