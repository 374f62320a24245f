"""Whether a checkpoint is one of this network, asked before anything is overwritten."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def check_checkpoint(model: nn.Module, state_dict: Mapping[str, Tensor], prefix: str) -> None:
    """Compare the names and shapes of a network with those in a checkpoint.

    Args:
        model: The network.
        state_dict: The checkpoint.
        prefix: What names of the network begin with there.

    Raises:
        ValueError: Naming the first tensor that differs.
    """
    here = {name: tensor.shape for name, tensor in model.state_dict().items()}
    there = {
        name[len(prefix) :]: tensor.shape
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            shapes = [tuple(s[name]) if name in s else "absent" for s in (there, here)]
            raise ValueError(
                f"checkpoint of another model: {name} is {shapes[0]} there, {shapes[1]} here"
            )
