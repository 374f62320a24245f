"""Training mode without a walk through all modules.

Stable-Baselines3 sets the mode of networks before each action and each update. Torch walks through
the tree for that, by names, which takes as long as the networks themselves. The tree hardly ever
changes, so its modules are found once, and looked for again when a module has other children.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import nn

Tree = list[tuple[nn.Module, list[nn.Module | None]]]


class QuickModes:
    """Mixin of a module, put before its class: `train` and `eval` set flags and nothing else."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode of this module and of all below it.

        Args:
            mode: Whether to train; else to evaluate.
        """
        memory: dict[str, Any] = self.__dict__
        tree: Tree | None = memory.get("_tree")
        if tree is None or not all([list(m._modules.values()) == below for m, below in tree]):
            module: Any = self
            tree = memory["_tree"] = [(m, list(m._modules.values())) for m in module.modules()]
            memory["_has_own_modes"] = any(map(_has_own_mode, (m for m, _ in tree[1:])))
        if memory["_has_own_modes"] or mode not in (True, False):
            super().train(mode)  # type: ignore[misc]
            return self
        for m, _ in tree:
            m.__dict__["training"] = mode
        return self


def _has_own_mode(module: nn.Module) -> bool:
    """Whether a module does more than keep a flag."""
    return type(module).train is not nn.Module.train or isinstance(module, torch.jit.ScriptModule)
