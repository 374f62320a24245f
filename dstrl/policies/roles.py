"""Which layers of a policy are inputs, hidden layers and outputs.

A chain lists the parts of a policy in the order in which an observation passes them. Its first
layer is an input, its last one an output. A layer that several chains pass counts as output before
input, and as input before hidden.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence

from torch import nn

from sparse_core.budgets.selection import takes
from sparse_core.layers.masked import Masked

RANK = {"hidden": 0, "input": 1, "output": 2}

Roles = dict[nn.Module, str]


def roles_of(root: nn.Module, chains: Iterable[Sequence[str]]) -> Roles:
    """Return the role of each layer that can be sparse or is already.

    Args:
        root: The module that the chains' names are relative to.
        chains: Names of submodules in the order of computation; absent ones are left out. A
            features extractor with one branch for each key of the observation stands for as many
            chains.
    """
    roles: Roles = {}
    for chain in chains:
        present = [name for name in chain if _find(root, name) is not None]
        for path in _branches(root, present):
            layers = [layer for part in path for layer in _layers(part)]
            for position, layer in enumerate(layers):
                last = position == len(layers) - 1
                role = "output" if last else "input" if position == 0 else "hidden"
                if RANK[role] >= RANK[roles.get(layer, "hidden")]:
                    roles[layer] = role
    return roles


def named(root: nn.Module, roles: Roles) -> dict[str, str]:
    """Return the roles of the layers that can still become sparse, as `sparsify` takes them."""
    return {
        glob.escape(name): roles[module]
        for name, module in root.named_modules()
        if module in roles and takes(module) is not None
    }


def _branches(root: nn.Module, chain: Sequence[str]) -> list[list[nn.Module]]:
    parts = [root.get_submodule(name) for name in chain]
    branches = getattr(parts[0], "extractors", None) if parts else None
    if isinstance(branches, nn.ModuleDict):
        return [[branch, *parts[1:]] for branch in branches.values()]
    return [parts]


def _layers(part: nn.Module) -> list[nn.Module]:
    return [m for m in part.modules() if isinstance(m, Masked) or takes(m) is not None]


def _find(root: nn.Module, name: str) -> nn.Module | None:
    try:
        return root.get_submodule(name)
    except AttributeError:
        return None
