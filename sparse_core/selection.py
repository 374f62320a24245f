"""Which tensors of a module become sparse, and which role each plays.

Selected are the weights of linear and convolutional layers and the projections of attention. The
last one is the `output`, the first one the `input`, attention's input projections are `qkv`, the
others are `hidden`; a caller who knows better (a policy with two heads) says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from sparse_core.checks import one_of
from sparse_core.layers import MASKED, PROJECTIONS, MaskedMultiheadAttention
from sparse_core.layers.masked import become_masked
from sparse_core.registry import ROLES


@dataclass(frozen=True)
class Selected:
    """One weight tensor that can be sparse.

    Attributes:
        name: The parameter's full name in the root module, such as `"net.0.weight"`.
        layer: The module that holds it.
        parameter: Its name in that module.
        role: `input`, `hidden`, `output` or `qkv`.
        shape: `(out, in)` or `(out, in / groups, *kernel)`.
        parent: The attention module that reads the weight in the layer's place, if there is one.
    """

    name: str
    layer: nn.Module
    parameter: str
    role: str
    shape: tuple[int, ...]
    parent: nn.Module | None = None

    @property
    def rows(self) -> int:
        """Number of neurons or filters."""
        return self.shape[0]

    @property
    def cols(self) -> int:
        """Dense fan-in."""
        return self.numel // self.rows

    @property
    def numel(self) -> int:
        """Number of weights."""
        return torch.Size(self.shape).numel()

    def matches(self, pattern: str) -> bool:
        """Whether a pattern names it: its role, or a wildcard on its or its layer's name."""
        layer_name = self.name.rpartition(".")[0]
        return (
            pattern == self.role
            or fnmatchcase(self.name, pattern)
            or fnmatchcase(layer_name, pattern)
        )

    def mask(self) -> None:
        """Give the tensor a mask of ones, and its layer the class that applies it."""
        become_masked(self.layer, masked_type(self.layer), self.parameter)
        if self.parent is not None:
            self.parent.__class__ = MaskedMultiheadAttention


def masked_type(layer: nn.Module) -> type[nn.Module]:
    """Return the masked form of a layer's type, or the type itself if it is one."""
    return MASKED.get(type(layer), type(layer))


def select(root: nn.Module, roles: Mapping[str, str] | None = None) -> list[Selected]:
    """List the weights of `root` that can be sparse, in the order of its modules.

    Args:
        root: Any module; the types in `sparse_core.layers.MASKED` are selected.
        roles: Wildcard on the layer's name -> role, for nets whose order says nothing.

    Raises:
        ValueError: If a role is unknown or a pattern in `roles` matches no layer.
    """
    found = list(_candidates(root))
    selected = []
    unmatched = set(roles or {})
    for index, (name, layer, parameter, parent) in enumerate(found):
        role = "output" if index == len(found) - 1 else "input" if index == 0 else "hidden"
        if parameter in PROJECTIONS:
            role = "qkv"
        for pattern, given in (roles or {}).items():
            one_of(f"roles[{pattern!r}]", given, ROLES)
            if fnmatchcase(name, pattern):
                role = given
                unmatched.discard(pattern)
        full = f"{name}.{parameter}" if name else parameter
        shape = tuple(layer.get_parameter(parameter).shape)
        selected.append(Selected(full, layer, parameter, role, shape, parent))
    if unmatched:
        raise ValueError(
            f"roles={sorted(unmatched)}: no such layer; there are "
            f"{', '.join(name for name, *_ in found)}"
        )
    return selected


def _candidates(
    root: nn.Module,
) -> Iterator[tuple[str, nn.Module, str, nn.Module | None]]:
    projections: dict[nn.Module, nn.Module] = {}
    seen: set[int] = set()
    for name, module in root.named_modules():
        if type(module) not in MASKED:
            continue
        parameters: tuple[str, ...] = ("weight",)
        if isinstance(module, nn.MultiheadAttention):
            projections[module.out_proj] = module
            parameters = PROJECTIONS
        for parameter in parameters:
            weight = getattr(module, parameter, None)
            if isinstance(weight, nn.Parameter) and id(weight) not in seen:
                seen.add(id(weight))
                yield name, module, parameter, projections.get(module)
