"""Which tensors of a module become sparse, and which role each plays.

Selected are the weights of linear and convolutional layers, the projections of attention and, where
asked for, embeddings. The last one is the `output`, the first one the `input`, embeddings are
`input` wherever they are, attention's input projections are `qkv`, the others are `hidden`; a
caller who knows better (a policy with two heads) says so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from sparse_core.checks import InputError, one_of
from sparse_core.layers import (
    MASKED,
    MASKED_EMBEDDINGS,
    PROJECTIONS,
    MaskedMultiheadAttention,
)
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
        shape: `(out, in)`, `(out, in / groups, *kernel)` or `(vocabulary, size)`.
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
        """Number of neurons, filters or tokens."""
        return self.shape[0]

    @property
    def cols(self) -> int:
        """Dense fan-in; of an embedding the size of a token's vector."""
        return math.prod(self.shape[1:])

    @property
    def numel(self) -> int:
        """Number of weights; the row of a `padding_idx` holds none."""
        padded = isinstance(self.layer, nn.Embedding) and self.layer.padding_idx is not None
        return (self.rows - padded) * self.cols

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
    return (MASKED | MASKED_EMBEDDINGS).get(type(layer), type(layer))


def selectable(embeddings: bool) -> list[type[nn.Module]]:
    """Return the types of layers that `select` takes."""
    return [*MASKED, *(MASKED_EMBEDDINGS if embeddings else ())]


def select(
    root: nn.Module, roles: Mapping[str, str] | None = None, *, embeddings: bool = False
) -> list[Selected]:
    """List the weights of `root` that can be sparse, in the order of its modules.

    Args:
        root: Any module; the types of `selectable` are selected.
        roles: Wildcard on the layer's name -> role, for nets whose order says nothing.
        embeddings: Whether `nn.Embedding` is selected too.

    Raises:
        ValueError: If a role is unknown or a pattern in `roles` matches no layer.
    """
    found = list(_candidates(root, selectable(embeddings)))
    selected = []
    unmatched = set(roles or {})
    last = max((i for i, item in enumerate(found) if not _is_lookup(item[1])), default=-1)
    for index, (name, layer, parameter, parent) in enumerate(found):
        role = "output" if index == last else "input" if index == 0 else "hidden"
        if parameter in PROJECTIONS:
            role = "qkv"
        if _is_lookup(layer):
            role = "input"
        for pattern, given in (roles or {}).items():
            one_of(f"roles[{pattern!r}]", given, ROLES)
            if fnmatchcase(name, pattern):
                role = given
                unmatched.discard(pattern)
        full = f"{name}.{parameter}" if name else parameter
        shape = tuple(layer.get_parameter(parameter).shape)
        selected.append(Selected(full, layer, parameter, role, shape, parent))
    if unmatched:
        raise InputError(
            f"roles={sorted(unmatched)}: no such layer; there are "
            f"{', '.join(name for name, *_ in found)}",
            field="roles",
        )
    return selected


def _is_lookup(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Embedding)


def _candidates(
    root: nn.Module, kinds: Collection[type[nn.Module]]
) -> Iterator[tuple[str, nn.Module, str, nn.Module | None]]:
    projections: dict[nn.Module, nn.Module] = {}
    seen: set[int] = set()
    for name, module in root.named_modules():
        if type(module) not in kinds:
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
