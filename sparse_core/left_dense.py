"""Layers that stay dense or masked though nobody asked for it, and why: `sparsify` warns of them.

Nothing is said of what the configuration chooses: layers that `dense` names, embeddings without
`embeddings`, `backend="auto"`. Nor of normalisation, biases, or parameters that are no weights by
their name, such as positions, tokens and standard deviations.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from sparse_core.budgets.selection import Selected, obstacle, selectable
from sparse_core.config import SparseConfig
from sparse_core.counts import NORMALISATIONS

LOOKUPS = (nn.Embedding, nn.EmbeddingBag)


def left_dense(
    root: nn.Module, selected: Sequence[Selected], *, embeddings: bool
) -> dict[str, str]:
    """Return which layers with weight matrices were not selected, by name, and why.

    Args:
        root: The module, dense still.
        selected: What was selected of it.
        embeddings: Whether embeddings can be.
    """
    taken = {id(item.weight) for item in selected}
    readers: dict[nn.Module, nn.Module] = {}
    found: dict[str, str] = {}
    for name, module in root.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            readers[module.out_proj] = module
        if isinstance(module, LOOKUPS) and not embeddings:
            continue
        if any(id(weight) not in taken for weight in _weights(module)):
            found[name] = _why(module, readers.get(module), embeddings)
    return found


def warn_left_dense(
    dense: Mapping[str, str], masked: Mapping[str, str], config: SparseConfig, stacklevel: int
) -> None:
    """Give one warning of all layers that stay dense or masked, if there are any.

    Args:
        dense: Layer -> why it stays dense; those that `config.dense` names are left out.
        masked: Layer -> why it stays masked.
        config: The configuration.
        stacklevel: As in `warnings.warn`.
    """
    unasked = {n: why for n, why in dense.items() if not matches_any(n, config.dense)}
    said = []
    if unasked:
        said.append(f"stay dense: {by_reason(unasked)}. Name them in dense= if they are to")
    if masked:
        said.append(
            f"stay masked under backend={config.backend!r}: {by_reason(masked)}. backend='auto' "
            "leaves the choice open"
        )
    if said:
        warnings.warn("Layers that " + ". Layers that ".join(said), stacklevel=stacklevel + 1)


def matches_any(name: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern names a layer."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _weights(module: nn.Module) -> Iterator[Tensor]:
    """Yield a module's own weights of two dimensions or more, and those that have no shape yet."""
    if isinstance(module, (*NORMALISATIONS, ParametrizationList)):
        return
    for name, parameter in module._parameters.items():
        if parameter is not None and "weight" in name:
            if is_lazy(parameter) or parameter.dim() > 1:
                yield parameter
    if is_parametrized(module, "weight"):
        parametrizations: Any = module.parametrizations
        yield from parametrizations.weight.parameters(recurse=False)


def _why(module: nn.Module, reader: nn.Module | None, embeddings: bool) -> str:
    what = obstacle(module)
    kinds = tuple(selectable(embeddings))
    if not isinstance(module, kinds):
        return f"{type(module).__name__} has no sparse form"
    if what is None and reader is not None:
        return f"{type(reader).__name__} reads its weight without a call"
    return what or f"{type(module).__name__} has a forward pass of its own"


def by_reason(reasons: Mapping[str, str]) -> str:
    """Say which layers there are, those of one reason together."""
    names: dict[str, list[str]] = {}
    for name, why in reasons.items():
        names.setdefault(why, []).append(repr(name) if name else "the module itself")
    return "; ".join(f"{', '.join(those)} ({why})" for why, those in names.items())
