"""The gradient tap: how a growth rule gets to see the dense gradient of a masked weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from sparse_core.layers.compact import CompactInput

Product = Callable[[Any, Tensor, slice], Tensor]


def linear_product(x: Tensor | CompactInput, dy: Tensor, rows: slice) -> Tensor:
    """Return some rows of the gradient of a linear layer's weight, dy^T x."""
    of_rows = dy.reshape(-1, dy.shape[-1])[:, rows].T
    if isinstance(x, CompactInput):
        return CompactInput(of_rows @ x.numbers, x.columns, x.width).dense()
    return of_rows @ x.reshape(-1, x.shape[-1])


class GradientTap:
    """Keeps the dense gradient of one sparse weight while it is armed.

    The value follows the rules of `.grad`: contributions of one backward pass are added up, those
    of several passes too, unless the gradient was reset in between. A backward pass through the
    layer that another optimizer wants (an actor's loss through its critic) is thereby forgotten at
    the next `zero_grad`, just as in `.grad` itself.

    Kernels give a layer's inputs and output gradients, whose product is the gradient; operations of
    torch give the gradient itself, look-ups the gradients of the rows that were looked up. Where
    several are given they are added up.

    Attributes:
        armed: Whether backward passes are watched.
        value: The gradient, in the weight's shape, but for `products` and `lookups`; None if none
            flowed.
        products: Inputs and output gradients whose product is not in `value` yet.
        lookups: Tokens `(n,)`, and gradients `(n, size)` of their rows, which are not in `value`
            yet.
        wants_signals: Whether the layer's inputs and output gradients are watched too.
        product: The gradient of inputs and output gradients, some rows of it.
        inputs: Per backward pass the layer's input, `(..., in)`.
        outputs: Per backward pass the gradient of its output, `(..., out)`.
        scale: A factor for the gradient: how `.grad` was scaled since.
        averages: Over how many steps inputs and output gradients are kept, for a mean of the
            gradient that no matrix holds; 0: over none.
        past: Inputs, output gradients and shares of those steps.
        steps: How many they are; -1: one of them had no gradient.
    """

    _vocabulary = 0

    def __init__(self) -> None:
        self.armed = False
        self.wants_signals = False
        self.product: Product = linear_product
        self.averages = 0
        self.steps = 0
        self.forget()
        self.begin_mean()

    def arm(self, on: bool) -> None:
        """Watch the next backward passes, or stop; forget what was seen."""
        self.armed = on
        self.forget()

    def forget(self) -> None:
        """Forget what was seen."""
        self.value: Tensor | None = None
        self.products: list[tuple[Tensor | CompactInput, Tensor]] = []
        self.lookups: list[tuple[Tensor, Tensor]] = []
        self.inputs: list[Tensor | CompactInput] = []
        self.outputs: list[Tensor] = []
        self.scale = 1.0
        self._pass = -1

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def watch(self, masked: Tensor, weight: Tensor) -> None:
        """Receive the gradient of `masked` = weight * mask when it is computed."""
        if self.armed and masked.requires_grad:
            masked.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._receive(gradient, weight)
            )

    def watch_signals(self, input: Tensor, output: Tensor, weight: Tensor) -> Tensor:
        """Receive the gradient of a layer's output, and keep its input; return the output."""
        if self.armed and self.wants_signals:
            self._watch_signals(input, output, weight)
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _watch_signals(self, input: Tensor, output: Tensor, weight: Tensor) -> None:
        if output.requires_grad:
            kept = input.detach()
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self.receive_signals(kept, gradient, weight)
            )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def watch_lookup(
        self,
        tokens: Tensor,
        output: Tensor,
        weight: Tensor,
        shape: tuple[int, int],
        padding: int | None,
    ) -> None:
        """Receive the gradient of `output` = W[tokens]; it is added up in the rows of W on demand.

        Args:
            tokens: `(n,)` int64.
            output: `(n, size)`.
            weight: The parameter that stands for W.
            shape: `(vocabulary, size)` of W.
            padding: The row that gets no gradient, if there is one.
        """
        if not (self.armed and output.requires_grad):
            return
        self._vocabulary = shape[0]

        def receive(gradient: Tensor) -> None:
            self._begin(weight)
            named, gradient = tokens, gradient.detach()
            if padding is not None:
                others = tokens != padding
                named, gradient = tokens[others], gradient[others]
            self.lookups.append((named, gradient))

        output.register_hook(receive)  # type: ignore[no-untyped-call]

    def _receive(self, gradient: Tensor, weight: Tensor) -> None:
        self._begin(weight)
        gradient = gradient.detach()
        self.value = gradient.clone() if self.value is None else self.value + gradient

    @property
    def flowed(self) -> bool:
        """Whether a gradient was seen."""
        return self.value is not None or bool(self.products) or bool(self.lookups)

    def gradient(self) -> Tensor | None:
        """Return the gradient, computed from inputs and output gradients where necessary."""
        self.value = self.gradient_rows(slice(None))
        self.products, self.lookups, self.scale = [], [], 1.0
        return self.value

    def gradient_rows(self, rows: slice) -> Tensor | None:
        """Return some rows of the gradient; no other rows are computed."""
        parts = [] if self.value is None else [self.value[rows]]
        parts += [self.product(x, dy, rows) for x, dy in self.products]
        parts += [self._added_up(tokens, gradient, rows) for tokens, gradient in self.lookups]
        if not parts:
            return None
        total = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
        return total if self.scale == 1 else total * self.scale

    def _added_up(self, tokens: Tensor, gradient: Tensor, rows: slice) -> Tensor:
        """Add the gradients of rows that were looked up in some rows of the matrix."""
        first, last, _ = rows.indices(self._vocabulary)
        if last - first < self._vocabulary:
            inside = (tokens >= first) & (tokens < last)
            tokens, gradient = tokens[inside] - first, gradient[inside]
        added: Tensor = torch.ops.aten.embedding_dense_backward(
            gradient, tokens, last - first, -1, False
        )
        return added

    def mean_rows(self, rows: slice) -> Tensor | None:
        """Return some rows of the mean over the last steps; None: no gradient flowed in one."""
        if self.steps < 1:
            return None
        return torch.stack([share * self.product(x, dy, rows) for x, dy, share in self.past]).sum(0)

    def keep(self, share: float) -> None:
        """Keep inputs and output gradients of the last step for a mean, with their share."""
        if self.steps < 0 or not self.products:
            self.begin_mean()
            self.steps = -1
            return
        self.past += [(x, dy, share * self.scale) for x, dy in self.products]
        self.steps += 1

    def begin_mean(self) -> None:
        """Begin a new mean."""
        self.past: list[tuple[Tensor | CompactInput, Tensor, float]] = []
        self.steps = 0

    def receive_signals(
        self, input: Tensor | CompactInput, gradient: Tensor, weight: Tensor
    ) -> None:
        """Add an input of the layer and the gradient of its output, by the rules of `.grad`."""
        if _computed(weight):
            self._begin(weight)
            self.inputs.append(input.detach() if isinstance(input, Tensor) else input)
            self.outputs.append(gradient.detach())

    def receive_product(
        self, input: Tensor | CompactInput, gradient: Tensor, weight: Tensor
    ) -> None:
        """Do the same where the weight's gradient is not given otherwise: it is their product."""
        if _computed(weight):
            self.receive_signals(input, gradient, weight)
            self.products.append((self.inputs[-1], self.outputs[-1]))

    def take(self, input: Tensor, gradient: Tensor) -> None:
        """Take an input `(n, in)` and the gradient of its output in place of what was seen."""
        self.forget()
        self.inputs, self.outputs = [input], [gradient]
        self.products = [(input, gradient)]

    def _begin(self, weight: Tensor) -> None:
        """Add to what was seen, or begin anew, as `.grad` does in the backward pass that runs."""
        now = torch._C._current_graph_task_id()
        if now != self._pass and (weight.grad is None or not bool(weight.grad.any())):
            self.forget()
        self._pass, self.scale = now, 1.0


def _computed(weight: Tensor) -> bool:
    """Whether the running backward pass reaches a weight: `autograd.grad` may leave it out."""
    if not weight.requires_grad:
        return False
    try:
        return torch._C._will_engine_execute_node(get_gradient_edge(weight).node)
    except RuntimeError:  # a leaf that `autograd.grad` itself asks for
        return True
