"""The gradient that growth sees: of one step, a mean over several steps, or running moments.

    gradient, gradient_steps = 1      the dense gradient of the step before the update
    gradient, gradient_steps = n      its mean over the n steps before the update
    momentum                          m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2, every step

The mean is taken of the gradient, not of its magnitude. b1 and b2 are the optimizer's own (Adam's
betas, SGD's momentum), so that `momentum` and `adam_momentum` grow by the moments that the
optimizer would have had for a dense gradient; its real moments are zero at inactive weights. Means
and moments are buffers of the layer, hence in `state_dict`; but for the means of large condensed
layers, which are no matrices: inputs and output gradients of those steps are kept until the update,
and a run that is resumed between them sits that update out. Where `.grad` was unscaled (GradScaler)
or clipped before the step, the gradient that growth sees is scaled alike.

A layer that no gradient reached (it is frozen, or its head was not used in this batch) sits out an
update that needs one: its topology stays as it is. A mean needs the gradients of all of its steps.
Moments are used from their first gradient on, even if later steps had none.

`sparse_core.weights.dense_gradient` knows where a gradient is stored.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer

from sparse_core.layers.condensed import CondensedLinear
from sparse_core.schedule import Schedule
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.dense_gradient import DenseGradient, check_finite, watched
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
        self._watching = False

    @property
    def _accumulates(self) -> bool:
        return self.needs == "momentum" or (self.needs != "nothing" and self.steps > 1)

    def prepare(self, tensors: Sequence[SparseTensor]) -> None:
        """Make the buffers that tensors need."""
        self.keep_signals(tensors)
        for tensor in tensors:
            linear = isinstance(tensor.layer, CondensedLinear)
            large = linear and isinstance(tensor, CondensedTensor) and tensor.in_blocks
            if self._accumulates and large and self.needs != "momentum":
                tensor.tap.averages = self.steps
            elif self._accumulates:
                tensor.set_companion("gradient_mean", tensor.like_dense())
            if self.needs == "momentum":
                tensor.set_companion("gradient_square", tensor.like_dense())

    def keep_signals(self, tensors: Sequence[SparseTensor]) -> None:
        """Let layers keep their inputs and the gradients of their outputs, if those are needed."""
        for tensor in tensors:
            DenseGradient(tensor).keep_signals(self.needs == "signals")

    def arm(
        self, tensors: Sequence[SparseTensor], phase: int, schedule: Schedule, horizon: int | None
    ) -> None:
        """Watch the gradient of the step after `phase` steps if an update will need it."""
        if self._wanted(phase, schedule, horizon):
            self._watching = True
            for tensor in tensors:
                DenseGradient(tensor).watch(True)
            return
        for gradient in self._watched(tensors):
            self.clear(gradient.tensor)
            gradient.watch(False)
        self._watching = False

    def disarm(self, tensors: Sequence[SparseTensor]) -> None:
        """Watch no gradients."""
        self._watching = False
        for tensor in tensors:
            DenseGradient(tensor).watch(False)

    def _watched(self, tensors: Sequence[SparseTensor]) -> list[DenseGradient]:
        """Return the gradients of the weights that are watched, of most steps none."""
        return watched(tensors) if self._watching else []

    def _wanted(self, phase: int, schedule: Schedule, horizon: int | None) -> bool:
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
        """Check the gradients of the coming step, and unscale them.

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
                check_finite(tensor, "weights", tensor.weight.detach(), step)
        flowed = self.collect(tensors, ranks)
        if not flowed and (due or self.needs != "momentum"):
            self.require([each.tensor for each in self._watched(tensors)], optimizer, step)
        for tensor in flowed:
            DenseGradient(tensor).check(step)

    def collect(
        self, tensors: Sequence[SparseTensor], ranks: Ranks | None = None
    ) -> list[SparseTensor]:
        """Return the weights that a gradient reached on any rank; all ranks get that gradient."""
        seen = self._watched(tensors)
        flowed = [gradient.flowed for gradient in seen]
        if ranks is not None and seen:
            flowed = ranks.anywhere(flowed, seen[0].tensor.weight.device)
        for gradient, flows in zip(seen, flowed, strict=True):
            if not flows:
                gradient.forget()
            elif ranks is not None:
                gradient.share(ranks, signals=self.needs == "signals")
        return [each.tensor for each, flows in zip(seen, flowed, strict=True) if flows]

    def require(
        self, tensors: Sequence[SparseTensor], optimizer: Optimizer | None, step: int
    ) -> None:
        """Check that a gradient reached at least one layer.

        It is no error if all are frozen, or if the loss depends on other parameters only.

        Args:
            tensors: All sparse weights.
            optimizer: The optimizer that makes the step.
            step: The number of the step, for the error message.

        Raises:
            RuntimeError: If no layer has one, nor has any other parameter of the optimizer.
        """
        trained = any(tensor.weight.requires_grad for tensor in tensors)
        if trained and all(self.why_idle(tensor) for tensor in tensors) and not _reached(optimizer):
            raise RuntimeError(
                f"no gradient flowed to any sparse layer in optimizer step {step}, nor to anything "
                "else that the optimizer trains, and the update needs one: call backward() on a "
                "loss before; nothing was changed"
            )

    def why_idle(self, tensor: SparseTensor) -> str | None:
        """Return why a layer sits out an update now, or None if it takes part."""
        if self.needs == "nothing":
            return None
        if not tensor.weight.requires_grad:
            return "it is frozen"
        gradient = DenseGradient(tensor)
        if gradient.flowed and not gradient.incomplete:
            return None
        if self.needs == "momentum":
            return None if gradient.has_moments else "no gradient has reached it yet"
        if self._accumulates:
            return f"no gradient reached it in one of the last {self.steps} steps"
        return "no gradient reached it in this step"

    def idle(self, tensors: Sequence[SparseTensor], step: int) -> tuple[SparseTensor, ...]:
        """Return the weights that sit out an update now; warn once of each.

        Args:
            tensors: All sparse weights.
            step: Optimizer steps done.
        """
        idle = []
        for tensor in tensors:
            why = self.why_idle(tensor)
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

    def accumulate(self, tensors: Sequence[SparseTensor], optimizer: Optimizer) -> None:
        """Add the gradients of the step that was just made to running means, where watched."""
        for gradient in self._watched(tensors):
            if self.needs == "momentum":
                gradient.accumulate_moments(*_betas(optimizer, gradient.tensor))
            else:
                gradient.accumulate(1 / self.steps)

    def clear(self, tensor: SparseTensor) -> None:
        """Begin a new mean, after an update."""
        if self.needs != "momentum":
            DenseGradient(tensor).begin_mean()

    def forget(self, tensor: SparseTensor) -> None:
        """Reset all running means, when a new task has new weights."""
        DenseGradient(tensor).begin_moments()


def has_closure(args: Any, kwargs: Any) -> bool:
    """Whether an optimizer's step was called with a closure, which makes its gradients."""
    return kwargs.get("closure", args[1] if len(args) > 1 else None) is not None


def _reached(optimizer: Optimizer | None) -> bool:
    """Whether a gradient reached anything that an optimizer trains."""
    groups = [] if optimizer is None else optimizer.param_groups
    gradients = [parameter.grad for group in groups for parameter in group["params"]]
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def _betas(optimizer: Optimizer, tensor: SparseTensor) -> tuple[float, float]:
    for group in optimizer.param_groups:
        if any(parameter is tensor.weight for parameter in group["params"]):
            if "betas" in group:
                return float(group["betas"][0]), float(group["betas"][1])
            if group.get("momentum"):
                return float(group["momentum"]), DEFAULT_BETAS[1]
    return DEFAULT_BETAS
