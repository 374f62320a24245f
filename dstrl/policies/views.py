"""A part of a network as a network of its own, for an engine of its own.

Its layers stay where they are in the whole network, and so do their names in its state: a state
that had them twice could be loaded with two values for one weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


class NetworkView(nn.ModuleDict):
    """Layers of a network under names of their own.

    Args:
        network: The whole network. The view must become one of its direct children.
        paths: Name in the view -> path of the module in the network.
    """

    def __init__(self, network: nn.Module, paths: Mapping[str, str]) -> None:
        super().__init__({name: network.get_submodule(path) for name, path in paths.items()})
        self.paths = dict(paths)
        self.register_state_dict_post_hook(_leave_out)  # type: ignore[no-untyped-call]
        network.register_load_state_dict_pre_hook(_fill_in)  # type: ignore[no-untyped-call]


def _leave_out(view: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Take the layers out of a state that has them under their paths."""
    assert isinstance(view, NetworkView)
    borrowed = tuple(f"{prefix}{name}." for name in view.paths)
    for key in [key for key in state if key.startswith(borrowed)]:
        del state[key]


def _fill_in(network: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    """Give the views of a network what a state that is about to be loaded has of their layers."""
    for child, view in network.named_children():
        if not isinstance(view, NetworkView):
            continue
        for name, path in view.paths.items():
            theirs = f"{prefix}{path}."
            for key in [key for key in state if key.startswith(theirs)]:
                state[f"{prefix}{child}.{name}.{key.removeprefix(theirs)}"] = state[key]
