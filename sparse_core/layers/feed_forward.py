"""The feed-forward block of torch's Transformer layers, its condensed layers run as one chain."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_core.layers.chain import run_chain
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.dense import Sparse
from sparse_core.layers.kinds import become, own_class
from sparse_core.layers.links import activation_of
from sparse_core.layers.passing import passes_through, watched

MODULES: dict[Any, nn.Module] = {F.relu: nn.ReLU(), torch.relu: nn.ReLU(), F.gelu: nn.GELU()}
"""Functions that a layer may have for its activation, as modules."""


class _Chained(Sparse):
    linear1: nn.Linear
    linear2: nn.Linear
    dropout: nn.Dropout
    activation: Any

    def _ff_block(self, x: Tensor) -> Tensor:
        first, activation, second = feed_forward(self)
        whole = isinstance(second, CondensedLinear) and not watched(second)
        if activation is None or watched(first) or not isinstance(first, CondensedLinear):
            return super()._ff_block(x)  # type: ignore[misc, no-any-return]
        if whole and passes_through(self.dropout):
            x = run_chain([first, activation, second], x)
        else:
            x = second(self.dropout(run_chain([first, activation], x)))
        return self._after(x)

    def _after(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _take_dense_form(self, latent: bool) -> None:
        self.__class__ = own_class(self)  # type: ignore[assignment]


class ChainedEncoderLayer(_Chained, nn.TransformerEncoderLayer):
    """`nn.TransformerEncoderLayer` whose feed-forward block is a chain."""

    def _after(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.dropout2(x)
        return dropped


class ChainedDecoderLayer(_Chained, nn.TransformerDecoderLayer):
    """`nn.TransformerDecoderLayer` whose feed-forward block is a chain."""

    def _after(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.dropout3(x)
        return dropped


FORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.TransformerEncoderLayer: ChainedEncoderLayer,
    nn.TransformerDecoderLayer: ChainedDecoderLayer,
}


def feed_forward(layer: Any) -> tuple[nn.Linear, nn.Module | None, nn.Linear]:
    """Return both linear layers of a feed-forward block and what is between them; None: unknown."""
    given = layer.activation
    activation = given if isinstance(given, nn.Module) else MODULES.get(given)
    known = activation is not None and activation_of(activation) and not watched(activation)
    return layer.linear1, activation if known else None, layer.linear2


def has_feed_forward(module: nn.Module) -> bool:
    """Whether a module is a Transformer layer with torch's own feed-forward block."""
    kind: Any = type(module)
    return "_ff_block" not in vars(module) and any(
        isinstance(module, dense) and kind._ff_block is vars(dense)["_ff_block"] for dense in FORMS
    )


def chain_feed_forward(module: nn.Module) -> None:
    """Let a Transformer layer run its feed-forward block as a chain, in place."""
    become(module, next(form for dense, form in FORMS.items() if isinstance(module, dense)))
