"""Which tensors of a module become sparse, and which role each plays.

Selected are the weights of linear layers (also of those that were born condensed) and convolutional
ones, the projections of attention and, on request, embeddings. The first one has the role `input`,
the last one `output`, the others `hidden`. Embeddings are `input` wherever they are, and
attention's input projections are `qkv`. A caller can give other roles, as policies with two heads
do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from sparse_core.checks import InputError, one_of
from sparse_core.layers import (
    MASKED,
    MASKED_EMBEDDINGS,
    PROJECTIONS,
    MaskedMultiheadAttention,
)
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.kinds import become, computes_as
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
        own_sparsity: The sparsity with which the layer was born condensed; None: it was not.
    """

    name: str
    layer: nn.Module
    parameter: str
    role: str
    shape: tuple[int, ...]
    parent: nn.Module | None = None
    own_sparsity: float | None = None

    @property
    def weight(self) -> nn.Parameter:
        """The parameter itself; of a layer that was born condensed its values."""
        if isinstance(self.layer, CondensedLinear):
            return self.layer.values
        return self.layer.get_parameter(self.parameter)

    @property
    def born(self) -> bool:
        """Whether there never was a dense weight: the layer is condensed, or on the meta device."""
        return isinstance(self.layer, CondensedLinear) or self.weight.is_meta

    @property
    def reader(self) -> nn.MultiheadAttention | None:
        """The attention module that it is a projection of; None: it is none."""
        reader = self.layer if self.parent is None else self.parent
        return reader if isinstance(reader, nn.MultiheadAttention) else None

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
            become(self.parent, MaskedMultiheadAttention)


def masked_type(layer: nn.Module) -> type[nn.Module]:
    """Return the masked form of a layer that can be masked, or is masked already."""
    forms = MASKED | MASKED_EMBEDDINGS
    return next(form for dense, form in forms.items() if isinstance(layer, dense))


def selectable(embeddings: bool) -> list[type[nn.Module]]:
    """Return the types of layers that `select` takes."""
    return [*MASKED, *(MASKED_EMBEDDINGS if embeddings else ())]


def takes(module: nn.Module, *, embeddings: bool = False) -> type[nn.Module] | None:
    """Return the type of `selectable` as which a layer can become sparse; None: it cannot.

    It may be of a type derived from one of them, if it computes in the same way from parameters of
    its own: no other `forward`, no parametrization, no weight that a hook makes.
    """
    kind = computes_as(module, selectable(embeddings))
    return kind if kind is not None and obstacle(module) is None else None


def obstacle(module: nn.Module) -> str | None:
    """Return why a layer's weight cannot have a mask, whatever its type; None: it can."""
    if "forward" in vars(module):
        return "its forward was replaced"
    if is_parametrized(module):
        steps: Any = module.parametrizations
        made = dict.fromkeys(type(step).__name__ for list_ in steps.values() for step in list_)
        return f"it is parametrized by {', '.join(made)}"
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, (WeightNorm, SpectralNorm, BasePruningMethod)):
            return f"torch.nn.utils.{type(hook).__module__.rpartition('.')[2]} makes its weight"
    for name in _needed(module):
        if name not in module._parameters:
            return f"its {name} is no parameter"
        parameter: Any = module._parameters[name]
        if is_lazy(parameter):
            return "its shape is unknown until it has run once, which is free on the meta device"
        if parameter is not None and type(parameter) is not nn.Parameter:
            return f"its {name} is a {type(parameter).__name__}"
    return None


def _needed(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, nn.MultiheadAttention):
        return (*PROJECTIONS, "in_proj_bias")
    return ("weight",) if _is_lookup(module) else ("weight", "bias")


def select(
    root: nn.Module, roles: Mapping[str, str] | None = None, *, embeddings: bool = False
) -> list[Selected]:
    """List the weights of `root` that can be sparse, in the order of its modules.

    Args:
        root: Any module; the types of `selectable` are selected.
        roles: Wildcard on the layer's name -> role, where the order does not tell the roles.
        embeddings: Whether `nn.Embedding` is selected too.

    Raises:
        ValueError: If a role is unknown or a pattern in `roles` matches no layer.
    """
    found = list(_candidates(root, embeddings))
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
        own = None
        if isinstance(layer, CondensedLinear):
            shape: tuple[int, ...] = layer.dense_shape
            own = 1 - layer.pattern.nnz / math.prod(shape)
        else:
            shape = tuple(layer.get_parameter(parameter).shape)
        selected.append(Selected(full, layer, parameter, role, shape, parent, own))
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
    root: nn.Module, embeddings: bool
) -> Iterator[tuple[str, nn.Module, str, nn.Module | None]]:
    projections: dict[nn.Module, nn.Module] = {}
    seen: set[int] = set()
    unread: set[nn.Module] = set()
    for name, module in root.named_modules():
        if isinstance(module, CondensedLinear) and id(module.values) not in seen:
            seen.add(id(module.values))
            yield name, module, "weight", None
        attends = isinstance(module, nn.MultiheadAttention)
        if takes(module, embeddings=embeddings) is None or module in unread:
            if isinstance(module, nn.MultiheadAttention):
                unread.add(module.out_proj)
            continue
        if isinstance(module, nn.MultiheadAttention):
            projections[module.out_proj] = module
        for parameter in PROJECTIONS if attends else ("weight",):
            weight = module._parameters.get(parameter)
            if weight is not None and id(weight) not in seen:
                seen.add(id(weight))
                yield name, module, parameter, projections.get(module)
