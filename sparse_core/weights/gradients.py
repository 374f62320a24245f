"""What growth sees of the gradient: that of one step, a mean over several, running moments.

    gradient, gradient_steps = 1      the dense gradient of the step before the update
    gradient, gradient_steps = n      its mean over the n steps before the update
    momentum                          m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2, every step

The mean is taken of the gradient, not of its magnitude. b1 and b2 are the optimizer's own (Adam's
betas, SGD's momentum), so that `momentum` and `adam_momentum` grow by the moments that the
optimizer would have had for a dense gradient; its real moments are zero at inactive weights. What
is accumulated lives in buffers of the layer, hence in `state_dict`. A loss scale (GradScaler) that
was taken off `.grad` before the step, and a norm that was clipped, count for the tap as well.

A layer that no gradient reached (it is frozen, or its head was not used in this batch) sits out an
update that has to look at one: its topology stays as it is. A mean needs the gradients of all of
its steps; one that lacks a step is -inf throughout, which travels with `state_dict` as well. A
momentum that has begun is a momentum, whichever steps it lacks.

Of a condensed layer too large for dense matrices, the gradient of one step is never made as a
whole: its inputs and output gradients are kept, and blocks of its rows are computed when they are
looked at.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_core.budgets.ranking import MINUS_INFINITY
from sparse_core.schedule import Schedule
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.ranks import Ranks
from sparse_core.weights.tensor import SparseTensor

DEFAULT_BETAS = (0.9, 0.999)


class GradientSource:
    """Decides when gradients are watched, and accumulates them.

    Args:
        needs: `nothing`, `gradient`, `momentum` or `signals`.
        steps: For `gradient` and `signals`, the number of steps to average over.
    """

    def __init__(self, needs: str, steps: int) -> None:
        self.needs = needs
        self.steps = steps
        self._told: set[str] = set()

    @property
    def _accumulates(self) -> bool:
        return self.needs == "momentum" or (self.needs != "nothing" and self.steps > 1)

    def prepare(self, tensor: SparseTensor) -> None:
        """Make the buffers that a tensor needs."""
        tensor.tap.wants_signals = self.needs == "signals"
        if self._accumulates:
            tensor.set_companion("gradient_mean", tensor.like_dense())
        if self.needs == "momentum":
            tensor.set_companion("gradient_square", tensor.like_dense())

    def wanted(self, phase: int, schedule: Schedule, horizon: int | None) -> bool:
        """Whether the gradient of the step after `phase` steps has to be watched."""
        if self.needs == "nothing":
            return False
        if self.needs == "momentum":
            return True
        return any(schedule.due(phase + ahead, horizon) for ahead in range(1, self.steps + 1))

    def check(
        self,
        tensors: Sequence[SparseTensor],
        optimizer: Optimizer,
        step: int,
        *,
        due: bool,
        ranks: Ranks | None = None,
    ) -> None:
        """Look at the gradients of a step that is about to be made, and unscale them.

        Args:
            tensors: All sparse weights.
            optimizer: The optimizer that makes the step.
            step: The number of the step, for error messages.
            due: Whether the topology is updated after it.
            ranks: Those that train the network together, if there are several.

        Raises:
            RuntimeError: If no gradient flowed at all, and one is needed.
            FloatingPointError: If a gradient that is watched, or a weight of a step before an
                update, is NaN or infinite.
        """
        if due:
            for tensor in tensors:
                _check_finite(tensor, "weights", tensor.weight.detach(), step)
        flowed = self.collect(tensors, ranks)
        if not flowed and (due or self.needs != "momentum"):
            watched = [tensor for tensor in tensors if tensor.tap.armed]
            self.require(watched, optimizer, step)
        for tensor in flowed:
            self._check_gradient(tensor, step)

    def collect(
        self, tensors: Sequence[SparseTensor], ranks: Ranks | None = None
    ) -> list[SparseTensor]:
        """Return those that a gradient reached, on any rank; all ranks have it from here on."""
        watched = [tensor for tensor in tensors if tensor.tap.armed]
        flowed = [_flows(tensor) for tensor in watched]
        if ranks is not None and watched:
            flowed = ranks.anywhere(flowed, watched[0].weight.device)
        for tensor, flows in zip(watched, flowed, strict=True):
            if not flows:
                tensor.tap.forget()
            elif ranks is not None:
                self._share(tensor, ranks)
        return [tensor for tensor, flows in zip(watched, flowed, strict=True) if flows]

    def _share(self, tensor: SparseTensor, ranks: Ranks) -> None:
        """Let each rank see what growth looks at of the batches of all."""
        tap, whole = tensor.tap, not self._in_blocks(tensor)
        if not _flows(tensor):
            tap.forget()
        if whole:
            gradient = tap.gradient()
            tap.value = ranks.mean(tensor.like_dense() if gradient is None else gradient)
        else:
            tap.products = [_gathered(tensor, tap.products, ranks)]
            if any(ranks.anywhere([tap.value is not None], tensor.weight.device)):
                value = tensor.like_dense() if tap.value is None else tap.value
                tap.value = ranks.mean(value) * ranks.size
            tap.scale /= ranks.size
        if self.needs == "signals":
            signals = list(zip(tap.inputs, tap.outputs, strict=True))
            inputs, outputs = _gathered(tensor, signals, ranks)
            tap.inputs, tap.outputs = [inputs], [outputs]

    def _in_blocks(self, tensor: SparseTensor) -> bool:
        """Whether a gradient is never made as a whole."""
        large = isinstance(tensor, CondensedTensor) and tensor.in_blocks
        return large and not self._accumulates

    def require(
        self, tensors: Sequence[SparseTensor], optimizer: Optimizer | None, step: int
    ) -> None:
        """Check that there is a gradient to look at; layers without one are no error, all are.

        They may all be frozen, or have no part in this loss while others do.

        Args:
            tensors: All sparse weights.
            optimizer: The optimizer that makes the step.
            step: The number of the step, for the error message.

        Raises:
            RuntimeError: If no layer has one, nor any other parameter of the optimizer.
        """
        trained = any(tensor.weight.requires_grad for tensor in tensors)
        if trained and all(self.lack(tensor) for tensor in tensors) and not _reached(optimizer):
            raise RuntimeError(
                f"no gradient flowed to any sparse layer in optimizer step {step}, nor to anything "
                "else that the optimizer trains, and the update needs one: call backward() on a "
                "loss before; nothing was changed"
            )

    def lack(self, tensor: SparseTensor) -> str | None:
        """Return why a layer sits out an update now, or None if it takes part."""
        if self.needs == "nothing":
            return None
        if not tensor.weight.requires_grad:
            return "it is frozen"
        if tensor.tap.flowed and not _is_incomplete(tensor):
            return None
        if self.needs == "momentum":
            return None if _has_flowed(tensor) else "no gradient has reached it yet"
        if self._accumulates:
            return f"no gradient reached it in one of the last {self.steps} steps"
        return "no gradient reached it in this step"

    def idle(self, tensors: Sequence[SparseTensor], step: int) -> tuple[SparseTensor, ...]:
        """Return the weights that sit out an update now, and say so once of each.

        Args:
            tensors: All sparse weights.
            step: Optimizer steps done.
        """
        idle = []
        for tensor in tensors:
            why = self.lack(tensor)
            if why is None:
                continue
            idle.append(tensor)
            if tensor.name not in self._told and not tensor.full:
                self._told.add(tensor.name)
                warnings.warn(
                    f"layer {tensor.name!r}: {why}, so it keeps its topology at the update after "
                    f"optimizer step {step}, as at any other that finds it so",
                    stacklevel=2,
                )
        return tuple(idle)

    def _check_gradient(self, tensor: SparseTensor, step: int) -> None:
        tap = tensor.tap
        if self._in_blocks(tensor):
            assert isinstance(tensor, CondensedTensor)
            tap.scale *= _seen_as(tensor, _active_gradient(tensor, step))
            return
        gradient = tap.gradient()
        assert gradient is not None
        _check_finite(tensor, "gradients", gradient, step)
        active = tensor.active().to(gradient.dtype)
        factor = _seen_as(tensor, tensor.stored(gradient.reshape(active.shape) * active))
        tap.value = gradient if factor == 1 else gradient * factor

    def fold(self, tensor: SparseTensor, optimizer: Optimizer) -> None:
        """Take in the gradient of the step that was just made."""
        mean = tensor.companion("gradient_mean")
        if mean is None:
            return
        gradient = tensor.tap.gradient() if _flows(tensor) else None
        if self.needs != "momentum":
            if gradient is None:
                mean.fill_(MINUS_INFINITY)
            else:
                mean.add_(gradient, alpha=1 / self.steps)
            return
        if gradient is None:
            return
        beta1, beta2 = _betas(optimizer, tensor)
        mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
        square = tensor.companion("gradient_square")
        assert square is not None
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)

    def clear(self, tensor: SparseTensor) -> None:
        """Begin a new mean, after an update."""
        mean = tensor.companion("gradient_mean")
        if mean is not None and self.needs != "momentum":
            mean.zero_()

    def forget(self, tensor: SparseTensor) -> None:
        """Begin anew altogether, when a new task has new weights."""
        for what in ("gradient_mean", "gradient_square"):
            accumulated = tensor.companion(what)
            if accumulated is not None:
                accumulated.zero_()


def _gathered(
    tensor: SparseTensor, signals: Sequence[tuple[Tensor, Tensor]], ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Return inputs `(n, cols)` and gradients of outputs `(n, rows)` of all ranks."""
    none = tensor.weight.detach()
    inputs = [none.new_zeros(0, tensor.cols), *(x.reshape(-1, tensor.cols) for x, _ in signals)]
    outputs = [none.new_zeros(0, tensor.rows), *(dy.reshape(-1, tensor.rows) for _, dy in signals)]
    return ranks.gather(torch.cat(inputs)), ranks.gather(torch.cat(outputs))


def has_closure(args: Any, kwargs: Any) -> bool:
    """Whether an optimizer's step was called with a closure, which makes its gradients."""
    return kwargs.get("closure", args[1] if len(args) > 1 else None) is not None


def _check_finite(tensor: SparseTensor, what: str, values: Tensor, step: int) -> None:
    _refuse(tensor, what, _not_finite(values), values.numel(), step)


def _not_finite(values: Tensor) -> int:
    return values.numel() - int((values.abs() < math.inf).count_nonzero())


def _refuse(tensor: SparseTensor, what: str, bad: int, of: int, step: int) -> None:
    if bad:
        raise FloatingPointError(
            f"layer {tensor.name!r}: {bad} of {of} {what} are NaN or infinite at "
            f"optimizer step {step}; nothing was changed"
        )


def _active_gradient(tensor: CondensedTensor, step: int) -> Tensor:
    """Return the gradient of the stored weights; check all of it, a block of rows at a time."""
    stored, bad = torch.zeros_like(tensor.weight), 0
    for rows in tensor.row_blocks():
        block = tensor.tap.gradient_rows(rows)
        assert block is not None
        bad += _not_finite(block)
        pattern, places = tensor.part(rows)
        stored[places] = torch.from_numpy(pattern.condense(block.numpy()))
    _refuse(tensor, "gradients", bad, tensor.numel, step)
    return stored


def _flows(tensor: SparseTensor) -> bool:
    """Whether a gradient reached a weight that trains."""
    return tensor.tap.flowed and tensor.weight.requires_grad


def _reached(optimizer: Optimizer | None) -> bool:
    """Whether a gradient reached anything that an optimizer trains."""
    groups = [] if optimizer is None else optimizer.param_groups
    gradients = [parameter.grad for group in groups for parameter in group["params"]]
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def _is_incomplete(tensor: SparseTensor) -> bool:
    mean = tensor.companion("gradient_mean")
    return mean is not None and bool((mean == MINUS_INFINITY).all())


def _has_flowed(tensor: SparseTensor) -> bool:
    square = tensor.companion("gradient_square")
    return square is not None and bool(square.any())


def _seen_as(tensor: SparseTensor, stored: Tensor) -> float:
    """Return a loss scale to undo and a clipped norm to apply: what became of `.grad` since.

    Both multiply all of `.grad` by one number, which is found by least squares at active weights.

    Args:
        tensor: The sparse weight.
        stored: The gradient of the backward pass at active weights, in the parameter's layout.
    """
    seen = tensor.weight.grad
    if seen is None:
        return 1.0
    ours = stored * (seen != 0)
    square = float((ours * ours).sum(dtype=torch.float64))
    ratio = float((seen * ours).sum(dtype=torch.float64)) / square if square else 1.0
    usable = math.isfinite(ratio) and ratio > 0 and abs(ratio - 1) >= 1e-3
    return ratio if usable else 1.0


def _betas(optimizer: Optimizer, tensor: SparseTensor) -> tuple[float, float]:
    for group in optimizer.param_groups:
        if any(parameter is tensor.weight for parameter in group["params"]):
            if "betas" in group:
                return float(group["betas"][0]), float(group["betas"][1])
            if group.get("momentum"):
                return float(group["momentum"]), DEFAULT_BETAS[1]
    return DEFAULT_BETAS
