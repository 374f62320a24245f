"""The gradient tap: how a growth rule gets to see the dense gradient of a masked weight."""

from __future__ import annotations

import torch
from torch import Tensor


class GradientTap:
    """Keeps the dense gradient of one masked weight, when asked to.

    The value follows the rules of `.grad`: contributions of one backward pass are added up, those
    of several passes too, unless the gradient was reset in between. A backward pass through the
    layer that another optimizer wants (an actor's loss through its critic) is thereby forgotten at
    the next `zero_grad`, just as in `.grad` itself.

    Attributes:
        armed: Whether backward passes are watched.
        value: The gradient, in the weight's shape; None if none flowed.
        wants_signals: Whether the layer's inputs and output gradients are watched too.
        inputs: Per backward pass the layer's input, `(..., in)`.
        outputs: Per backward pass the gradient of its output, `(..., out)`.
        scale: What became of `.grad` since, a factor for the product of inputs and outputs.
    """

    def __init__(self) -> None:
        self.armed = False
        self.wants_signals = False
        self.value: Tensor | None = None
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.scale = 1.0
        self._pass = -1
        self._signal_pass = -1

    def arm(self, on: bool) -> None:
        """Watch the next backward passes, or stop; forget what was seen."""
        self.armed = on
        self.forget()

    def forget(self) -> None:
        """Forget what was seen."""
        self.value = None
        self.inputs = []
        self.outputs = []
        self.scale = 1.0
        self._pass = -1
        self._signal_pass = -1

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def watch(self, masked: Tensor, weight: Tensor) -> None:
        """Be told the gradient of `masked` = weight * mask when it is computed."""
        if self.armed and masked.requires_grad:
            masked.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._receive(gradient, weight)
            )

    def watch_signals(self, input: Tensor, output: Tensor, weight: Tensor) -> Tensor:
        """Be told the gradient of a layer's output, and keep its input; returns the output."""
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
        """Be told the gradient of `output` = W[tokens], and add it up in the rows of W.

        Args:
            tokens: `(n,)` int64.
            output: `(n, size)`.
            weight: The parameter that stands for W.
            shape: `(vocabulary, size)` of W.
            padding: The row that gets no gradient, if there is one.
        """
        if not (self.armed and output.requires_grad):
            return
        row = -1 if padding is None else padding

        def receive(gradient: Tensor) -> None:
            dense = torch.ops.aten.embedding_dense_backward(gradient, tokens, shape[0], row, False)
            self._receive(dense, weight)

        output.register_hook(receive)  # type: ignore[no-untyped-call]

    def _receive(self, gradient: Tensor, weight: Tensor) -> None:
        if self.value is None or _begins_anew(self._pass, weight):
            self.value = gradient.detach().clone()
        else:
            self.value = self.value + gradient.detach()
        self._pass = torch._C._current_graph_task_id()

    @property
    def flowed(self) -> bool:
        """Whether a gradient was seen."""
        return self.value is not None or bool(self.inputs)

    def gradient(self) -> Tensor | None:
        """Return the gradient, made from inputs and output gradients where only those were seen."""
        if self.value is None and self.inputs:
            self.value = self._product(slice(None))
        return self.value

    def gradient_rows(self, rows: slice) -> Tensor | None:
        """Return some rows of the gradient; where only signals were seen, no others are made."""
        if self.value is None and self.inputs:
            return self._product(rows)
        return None if self.value is None else self.value[rows]

    def _product(self, rows: slice) -> Tensor:
        pairs = zip(self.inputs, self.outputs, strict=True)
        products = [
            dy.reshape(-1, dy.shape[-1])[:, rows].T @ x.reshape(-1, x.shape[-1]) for x, dy in pairs
        ]
        product = torch.stack(products).sum(0) if len(products) > 1 else products[0]
        return product if self.scale == 1 else product * self.scale

    def receive_signals(self, input: Tensor, gradient: Tensor, weight: Tensor) -> None:
        """Take in one input of the layer and the gradient of its output, as `.grad` would."""
        if _begins_anew(self._signal_pass, weight):
            self.inputs, self.outputs = [], []
        self.scale = 1.0
        if self._pass == -1:
            self.value = None
        self.inputs.append(input)
        self.outputs.append(gradient.detach())
        self._signal_pass = torch._C._current_graph_task_id()


def _begins_anew(last_pass: int, weight: Tensor) -> bool:
    if torch._C._current_graph_task_id() == last_pass:
        return False
    return weight.grad is None or not bool(weight.grad.any())
