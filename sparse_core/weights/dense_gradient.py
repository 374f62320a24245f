"""The dense gradient of a sparse weight, by rows, wherever it is stored.

It is stored in one of three places, and no other code needs to know in which:

    the layer's tap          the gradient of the last backward pass
    inputs and outputs       of a condensed layer: their product is the gradient. It is computed on
                             demand, for layers too large for dense matrices in blocks of rows only;
                             so are sums of the gradients of an embedding's rows
    a running mean           over several steps, in buffers of the layer, hence in `state_dict`

A mean that lacks the gradient of a step is filled with -inf, so that a `state_dict` tells this too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparse_core.budgets.ranking import MINUS_INFINITY
from sparse_core.kernels.format import Pattern
from sparse_core.layers.compact import CompactInput
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.weights.cells import Signal, product_at
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.ranks import Ranks
from sparse_core.weights.tensor import ALL, SparseTensor

_SAMPLED = 1 << 16
"""Weights, active or not, that tell how all of a gradient was scaled."""


class DenseGradient:
    """The dense gradient of one weight. It has no state of its own: make one when you need it.

    Args:
        tensor: The weight.
    """

    def __init__(self, tensor: SparseTensor) -> None:
        self.tensor = tensor
        self._tap = tensor.tap

    # What it is -----------------------------------------------------------------------------------

    @property
    def flowed(self) -> bool:
        """Whether the last backward pass reached the weight, and it trains."""
        return self._tap.flowed and self.tensor.weight.requires_grad

    def rows(self, rows: slice = ALL) -> Tensor | None:
        """Return `(rows, cols)` of the gradient, of its mean if there is one; None: none flowed."""
        mean = self._mean
        if mean is None and self._tap.averages:
            return self._tap.mean_rows(rows)
        found = self._tap.gradient_rows(rows) if mean is None else mean[rows]
        return None if found is None else found.reshape(-1, self.tensor.cols)

    def square_rows(self, rows: slice = ALL) -> Tensor | None:
        """Return `(rows, cols)` of the running mean of its square; None if none is kept."""
        square = self.tensor.companion("gradient_square")
        return None if square is None else square[rows].reshape(-1, self.tensor.cols)

    def signals(self) -> tuple[Tensor, Tensor] | None:
        """Return inputs `(samples, cols)` and gradients of outputs `(samples, rows)`.

        They are those of the last backward pass through a linear layer; None: there was none, or
        the layer is not linear.
        """
        rows, cols, parts = self.tensor.rows, self.tensor.cols, self.parts()
        dense = [x.dense() if isinstance(x, CompactInput) else x for x, _, _ in parts]
        linear = len(self.tensor.shape) == 2 and not isinstance(self.tensor.layer, nn.Conv2d)
        if not parts or not linear or any(x.shape[-1] != cols for x in dense):
            return None
        inputs = torch.cat([x.reshape(-1, cols) for x in dense])
        return inputs, torch.cat([dy.reshape(-1, rows) for _, dy, _ in parts])

    def parts(self) -> list[Signal]:
        """Return inputs and gradients of outputs, with the share of each in the gradient."""
        tap = self._tap
        if tap.averages:
            return tap.past
        return [(x, dy, tap.scale) for x, dy in zip(tap.inputs, tap.outputs, strict=True)]

    def at(self, pattern: Pattern, rows: slice) -> Tensor:
        """Return the gradient at the weights of a pattern, `(slots, group)`.

        Args:
            pattern: Of the rows, whole groups.
            rows: Which rows of the matrix these are.
        """
        group = pattern.group
        if not self._whole and self._is_product:
            tap = self._tap
            last = [(x, dy, tap.scale) for x, dy in tap.products]
            found = product_at(pattern, rows, tap.past if tap.averages else last)
            return torch.from_numpy(found).reshape(-1, group)
        dense = self.rows(rows)
        assert dense is not None
        return torch.from_numpy(pattern.condense(dense.detach().cpu().numpy())).reshape(-1, group)

    @property
    def incomplete(self) -> bool:
        """Whether the mean lacks the gradient of a step."""
        if self._tap.averages and self._mean is None:
            return self._tap.steps != self._tap.averages
        return self._mean is not None and bool((self._mean == MINUS_INFINITY).all())

    @property
    def has_moments(self) -> bool:
        """Whether a gradient has ever reached the running mean of its square."""
        square = self.tensor.companion("gradient_square")
        return square is not None and bool(square.any())

    @property
    def _mean(self) -> Tensor | None:
        return self.tensor.companion("gradient_mean")

    @property
    def _is_product(self) -> bool:
        """Whether it is known by inputs and output gradients of a linear layer on the CPU."""
        linear = isinstance(self.tensor.layer, CondensedLinear)
        return linear and not self.tensor.layer.on_device and self._tap.value is None

    @property
    def _whole(self) -> bool:
        """Whether the whole gradient may be held as one dense matrix."""
        large = isinstance(self.tensor, CondensedTensor) and self.tensor.in_blocks
        return not large or self._mean is not None

    # Before a step --------------------------------------------------------------------------------

    def watch(self, on: bool) -> None:
        """Watch the next backward passes, or stop; forget the gradient of earlier ones."""
        self._tap.arm(on)

    def keep_signals(self, on: bool) -> None:
        """Let the layer keep its inputs and the gradients of its outputs too."""
        self._tap.wants_signals = on

    def forget(self) -> None:
        """Forget the gradient of the last backward pass."""
        self._tap.forget()

    def check(self, step: int) -> None:
        """Check the gradient of the last backward pass, and scale it as `.grad` was scaled since.

        Args:
            step: The number of the step, for the error message.

        Raises:
            FloatingPointError: If an entry is NaN or infinite.
        """
        tap, tensor = self._tap, self.tensor
        if not self._whole:
            assert isinstance(tensor, CondensedTensor)
            _check_in_parts(tensor, self, step)
            tap.scale *= self._factor_since()
            return
        gradient = tap.gradient()
        assert gradient is not None
        check_finite(tensor, "gradients", gradient, step)
        factor = self._factor_since()
        tap.value = gradient if factor == 1 else gradient * factor

    def _factor_since(self) -> float:
        """Return the factor by which `.grad` was scaled since the backward pass.

        Loss scalers and norm clipping multiply all of `.grad` by one number. It is found by least
        squares at active weights: those of the first rows, or of all if nothing flowed there.
        """
        tensor = self.tensor
        if tensor.weight.grad is None:
            return 1.0
        group = tensor.layer.group if isinstance(tensor, CondensedTensor) else 1
        few = group * -(-_SAMPLED // (group * tensor.cols))
        for rows in (slice(0, min(few, tensor.rows)), ALL):
            stored, seen = self._at_active(rows)
            ours = stored * (seen != 0)
            square = float((ours * ours).sum(dtype=torch.float64))
            if square:
                ratio = float((seen * ours).sum(dtype=torch.float64)) / square
                usable = math.isfinite(ratio) and ratio > 0 and abs(ratio - 1) >= 1e-3
                return ratio if usable else 1.0
        return 1.0

    def _at_active(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return the last gradient and `.grad` at the active weights of some rows, whole groups."""
        tap, tensor = self._tap, self.tensor
        seen = tensor.weight.grad
        assert seen is not None
        if not isinstance(tensor, CondensedTensor):
            found = tap.gradient_rows(rows)
            assert found is not None
            matrix = found.reshape(-1, tensor.cols)
            active = tensor.active(rows)
            return matrix * active.to(matrix.dtype), seen.reshape(tensor.rows, -1)[rows]
        if tensor.layer.on_device:
            return self._stored(tensor), seen
        pattern, places = tensor.part(rows)
        if not self._whole and self._is_product:
            parts = [(x, dy, tap.scale) for x, dy in tap.products]
            return torch.from_numpy(product_at(pattern, rows, parts)), seen[places]
        found = tap.gradient_rows(rows)
        assert found is not None
        matrix = found.reshape(-1, tensor.cols)
        return torch.from_numpy(pattern.condense(matrix.numpy())), seen[places]

    def _stored(self, tensor: CondensedTensor) -> Tensor:
        """Return the last gradient in the layout of the values, a block of rows at a time."""
        stored = torch.zeros_like(tensor.weight)
        for rows in tensor.row_blocks():
            block = self._tap.gradient_rows(rows)
            assert block is not None
            tensor.store(block.reshape(-1, tensor.cols), stored, rows)
        return stored

    def share(self, ranks: Ranks, *, signals: bool) -> None:
        """Turn it into the gradient of the batches of all ranks; call this on each of them.

        Args:
            ranks: The ranks.
            signals: Whether inputs and outputs are gathered too.
        """
        tap, tensor = self._tap, self.tensor
        if not self.flowed:
            tap.forget()
        if self._whole or isinstance(tensor.layer, nn.Conv2d | nn.Embedding):
            gradient = tap.gradient()
            tap.value = ranks.mean(tensor.like_dense() if gradient is None else gradient)
        else:
            tap.products = [_gathered(tensor, tap.products, ranks)]
            if any(ranks.anywhere([tap.value is not None], tensor.weight.device)):
                value = tensor.like_dense() if tap.value is None else tap.value
                tap.value = ranks.mean(value) * ranks.size
            tap.scale /= ranks.size
        if signals:
            own = list(zip(tap.inputs, tap.outputs, strict=True))
            inputs, outputs = _gathered(tensor, own, ranks)
            tap.inputs, tap.outputs = [inputs], [outputs]

    # Running means --------------------------------------------------------------------------------

    def accumulate(self, share: float) -> None:
        """Add a share of the last gradient to the mean; without one the mean is incomplete."""
        if self._tap.averages:
            self._tap.keep(share)
        mean = self._mean
        if mean is None:
            return
        gradient = self._tap.gradient() if self.flowed else None
        if gradient is None:
            mean.fill_(MINUS_INFINITY)
        else:
            mean.add_(gradient, alpha=share)

    def accumulate_moments(self, beta1: float, beta2: float) -> None:
        """Add the last gradient, if one flowed, to the running moments."""
        mean, square = self._mean, self.tensor.companion("gradient_square")
        gradient = self._tap.gradient() if self.flowed else None
        if gradient is None or mean is None or square is None:
            return
        mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)

    def begin_mean(self) -> None:
        """Begin a new mean."""
        self._tap.begin_mean()
        if self._mean is not None:
            self._mean.zero_()

    def begin_moments(self) -> None:
        """Begin all running means anew."""
        self.begin_mean()
        square = self.tensor.companion("gradient_square")
        if square is not None:
            square.zero_()


def watched(tensors: Sequence[SparseTensor]) -> list[DenseGradient]:
    """Return the gradients of the weights whose backward passes are watched."""
    return [DenseGradient(tensor) for tensor in tensors if tensor.tap.armed]


def check_finite(tensor: SparseTensor, what: str, values: Tensor, step: int) -> None:
    """Raise a FloatingPointError if a value is NaN or infinite.

    Args:
        tensor: The weight that they belong to.
        what: `weights` or `gradients`.
        values: Of any shape.
        step: The number of the step.
    """
    _refuse(tensor, what, _not_finite(values), values.numel(), step)


def _not_finite(values: Tensor) -> int:
    if math.isfinite(float(values.sum())):  # one pass tells, unless finite values overflow it
        return 0
    return values.numel() - int((values.abs() < math.inf).count_nonzero())


def _refuse(tensor: SparseTensor, what: str, bad: int, of: int, step: int) -> None:
    if bad:
        raise FloatingPointError(
            f"layer {tensor.name!r}: {bad} of {of} {what} are NaN or infinite at "
            f"optimizer step {step}; nothing was changed"
        )


def _check_in_parts(tensor: CondensedTensor, gradient: DenseGradient, step: int) -> None:
    """Check what the whole of a gradient is made of.

    That are inputs and gradients of outputs of linear layers on the CPU: a look at each entry of
    their product would cost more than the step. Elsewhere the product is looked at, a block of rows
    at a time.
    """
    tap = tensor.tap
    if gradient._is_product:
        for x, dy in tap.products:
            numbers = x.numbers if isinstance(x, CompactInput) else x
            # What is not finite in one of them makes a row or a column of the product so.
            bad = _not_finite(dy.sum(0) if dy.dim() == 2 else dy.reshape(-1, tensor.rows).sum(0))
            _refuse(tensor, "gradients", bad * tensor.cols, tensor.numel, step)
            bad = _not_finite(numbers.reshape(-1, numbers.shape[-1]).sum(0))
            _refuse(tensor, "gradients", bad * tensor.rows, tensor.numel, step)
        return
    bad = 0
    for rows in tensor.row_blocks():
        block = tap.gradient_rows(rows)
        assert block is not None
        bad += _not_finite(block)
    _refuse(tensor, "gradients", bad, tensor.numel, step)


def _gathered(
    tensor: SparseTensor, signals: Sequence[tuple[Tensor | CompactInput, Tensor]], ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Return inputs `(n, cols)` and gradients of outputs `(n, rows)` of all ranks."""
    none = tensor.weight.detach()
    dense = [x.dense() if isinstance(x, CompactInput) else x for x, _ in signals]
    inputs = [none.new_zeros(0, tensor.cols), *(x.reshape(-1, tensor.cols) for x in dense)]
    outputs = [none.new_zeros(0, tensor.rows), *(dy.reshape(-1, tensor.rows) for _, dy in signals)]
    return ranks.gather(torch.cat(inputs)), ranks.gather(torch.cat(outputs))
