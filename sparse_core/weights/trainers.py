"""The optimizers that train the sparse weights of one network.

Each keeps moments of all weights, and these have to follow the topology. Each moves whole
parameters, of which some entries may have to stay: weights of earlier tasks, biases of ablated
neurons. Hooks on the first optimizer say when a step is made. Copies and pickles of optimizers lose
their hooks, so this object does not keep them either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from sparse_core.in_force import KEPT_STATES
from sparse_core.weights.delta import Delta
from sparse_core.weights.foreign import own_moments
from sparse_core.weights.fresh import leaves_zeros
from sparse_core.weights.optimizer_state import (
    carry_moments,
    clear_inactive,
    clear_moments,
    keep_outside,
    outside,
)
from sparse_core.weights.tensor import SparseTensor

Hook = Callable[[Optimizer, Any, Any], None]


class Trainers:
    """The optimizers of one network.

    Args:
        policy: What becomes of moments of moved weights, see
            `sparse_core.weights.optimizer_state`.

    Attributes:
        optimizers: The optimizers; empty while detached. The steps of the first one count.
        stepping: Whether the first one is making a step.
        foreign: Weights whose module has loaded the state of their other form; moments that are
            loaded next may have that form too, see `sparse_core.weights.foreign`.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.optimizers: list[Optimizer] = []
        self.stepping = False
        self.foreign: list[SparseTensor] = []
        self._handles: list[RemovableHandle] = []
        self._fixed: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._frozen: list[tuple[SparseTensor, list[tuple[Tensor, Tensor]]]] = []

    @property
    def counting(self) -> Optimizer | None:
        """The optimizer whose steps count; None while detached."""
        return self.optimizers[0] if self.optimizers else None

    # Which optimizers -----------------------------------------------------------------------------

    def take(self, optimizers: Sequence[Optimizer], tensors: Sequence[SparseTensor]) -> None:
        """Name the optimizers that train the weights; moments of inactive weights are reset."""
        self.optimizers = list(optimizers)
        for tensor in tensors:
            tensor.adopt(*self.optimizers)
        if self.policy in KEPT_STATES:
            return
        for optimizer in self.optimizers:
            for tensor in tensors:
                if not tensor.latent:
                    clear_inactive(optimizer, tensor)

    def hook(self, before: Hook, after: Hook) -> None:
        """Call these before and after each step that counts, and see what states are loaded."""
        assert self.counting is not None
        self._handles = [
            self.counting.register_step_pre_hook(before),
            self.counting.register_step_post_hook(after),
        ]
        for optimizer in self.optimizers:
            self._handles.append(optimizer.register_load_state_dict_pre_hook(self._loading))

    def _loading(self, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any] | None:
        return own_moments(optimizer, state, self.foreign) if self.foreign else None

    def leave(self) -> None:
        """Forget the optimizers and remove the hooks from them."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.optimizers = []

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handles": [], "_fixed": [], "_frozen": [], "stepping": False}

    # A step ---------------------------------------------------------------------------------------

    def before_step(self, tensors: Sequence[SparseTensor]) -> None:
        """Save what the coming step must not change."""
        self._fixed = [
            (parameter, parameter.detach().clone(), fixed)
            for tensor in tensors
            for parameter, fixed in tensor.fixed()
        ]
        if self.policy == "freeze" and self.counting is not None:
            self._frozen = [
                (tensor, outside(self.counting, tensor)) for tensor in tensors if not tensor.latent
            ]
        self.stepping = True

    def skip_step(self) -> None:
        """Drop all gradients of the optimizer, so that the coming step changes nothing."""
        assert self.counting is not None
        for group in self.counting.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def after_step(self, tensors: Sequence[SparseTensor]) -> None:
        """Restore what the step must not change, and zero inactive weights that it moved."""
        assert self.counting is not None
        self.stepping = False
        for parameter, before, fixed in self._fixed:
            torch.where(fixed, before, parameter, out=parameter)
        self._fixed = []
        for tensor, moments in self._frozen:
            keep_outside(tensor, moments)
        self._frozen = []
        if self.policy in KEPT_STATES or not leaves_zeros(self.counting):
            for tensor in tensors:
                tensor.enforce()

    # Moments --------------------------------------------------------------------------------------

    def apply(self, tensor: SparseTensor, delta: Delta) -> None:
        """Bring the moments of a weight over a Delta that was just applied, last of all."""
        if not tensor.latent:
            for optimizer in self.optimizers:
                carry_moments(optimizer, tensor, delta, self.policy)
        tensor.settle()

    def clear(self, tensor: SparseTensor) -> None:
        """Reset all moments of a weight, when a new task begins."""
        for optimizer in self.optimizers:
            clear_moments(optimizer, tensor)
