"""Activations whose derivative asks for their input: GELU, SiLU and ELU.

They are torch's own functions, which take any layout: they work on single numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparse_core.step.parts import Part
from sparse_core.step.shape import Array, Shape
from sparse_core.step.tape import Tape

aten: Any = torch.ops.aten

Function = Callable[..., None]


def _gelu(module: Any) -> tuple[Function, Function]:
    how = module.approximate

    def forward(x: Tensor, out: Tensor) -> None:
        aten.gelu.out(x, approximate=how, out=out)

    def backward(dy: Tensor, x: Tensor) -> None:
        aten.gelu_backward.grad_input(dy, x, approximate=how, grad_input=dy)

    return forward, backward


def _silu(module: Any) -> tuple[Function, Function]:
    def forward(x: Tensor, out: Tensor) -> None:
        aten.silu.out(x, out=out)

    def backward(dy: Tensor, x: Tensor) -> None:
        aten.silu_backward.grad_input(dy, x, grad_input=dy)

    return forward, backward


def _elu(module: Any) -> tuple[Function, Function]:
    alpha = module.alpha

    def forward(x: Tensor, out: Tensor) -> None:
        aten.elu.out(x, alpha, out=out)

    def backward(dy: Tensor, x: Tensor) -> None:
        aten.elu_backward.grad_input(dy, alpha, 1, 1, False, x, grad_input=dy)

    return forward, backward


SMOOTH: dict[type[nn.Module], Callable[[Any], tuple[Function, Function]]] = {
    nn.GELU: _gelu,
    nn.SiLU: _silu,
    nn.ELU: _elu,
}
"""Those that are known: what makes the function and its derivative from a module's options."""


class Smooth(Part):
    """An activation of `SMOOTH`.

    Args:
        module: The activation.
        shape: Of the batch.
        features: How many there are.
    """

    overwrites = True

    def __init__(self, module: nn.Module, shape: Shape, features: int) -> None:
        self._forward, self._backward = SMOOTH[type(module)](module)
        self.shape = shape
        self.out = shape.forward(features)
        self._out = torch.from_numpy(self.out)

    def forward(self, tape: Tape, x: Array) -> Array:
        """Map `(tiles, features, tile)` to the same."""
        given, out, function = torch.from_numpy(x), self._out, self._forward
        self._seen = given[: self.shape.trained]
        tape.do(lambda: function(given, out))
        return self.out

    def backward(self, tape: Tape, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Compute the gradient of the input, in the place of `dy`."""
        signal, seen, function = torch.from_numpy(dy), self._seen, self._backward
        tape.do(lambda: function(signal, seen))
        return dy
