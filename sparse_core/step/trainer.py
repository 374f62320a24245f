"""The step of a torch optimizer, made by a kernel on the tensors and the state that it holds.

Which optimizers: Adam and AdamW, SGD and RMSprop of torch and of `sparse_core.optim`. The state is
the optimizer's own, so it may go on itself at any time, and be saved and loaded as ever. An
optimizer begins its state in its own first step, which is therefore left to it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from operator import is_
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from sparse_core.kernels import optimizers as kernels
from sparse_core.kernels.optimizer_steps import NUMBERS
from sparse_core.optim import torch_class
from sparse_core.step.arrays import follow_kernel, restore_kernel, save_kernel
from sparse_core.step.clipping import clip_kernel
from sparse_core.step.layers import CannotCompile, Learned
from sparse_core.step.options import NAMES, OPTIONS, adam_kernel, rule_of
from sparse_core.step.shape import Array, zeros
from sparse_core.step.tape import Tape

Gradients = Sequence[tuple[nn.Parameter, Array]]
_Saved = tuple[Array, Array | None, NDArray[np.int64], Array]


class Trainer:
    """Moves the parameters of one optimizer by gradients that lie in arrays.

    Args:
        optimizer: Whose step it makes; it has made one itself.
        gradients: All parameters that it trains, and where their gradients lie.
        target: Parameters that follow those by a Polyak average, in the order of the optimizer's;
            empty: none.
        layers: Those whose ablated neurons' biases stay as they are.

    Attributes:
        optimizer: As given.
        gradients: As given.
        parameters: What it moves, in the optimizer's order.
        target: As given.

    Raises:
        CannotCompile: If the optimizer is another, has an option that the kernels do not know, or
            trains other parameters too.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        gradients: Gradients,
        target: Sequence[Tensor] = (),
        layers: Sequence[Learned] = (),
    ) -> None:
        self.optimizer, self.gradients = optimizer, gradients
        self.target = list(target)
        self._group = group = _only_group(optimizer)
        self._rule, self._numbers_of = rule_of(optimizer, polyak=bool(target))
        places = {id(parameter): array for parameter, array in gradients}
        parameters: list[Tensor] = group["params"]
        self.parameters = list(parameters)
        if len(places) != len(parameters) or any(id(p) not in places for p in parameters):
            raise CannotCompile("an optimizer trains other parameters than the networks'")
        if not all(parameter.requires_grad for parameter in parameters):
            raise CannotCompile("some parameters are frozen")
        names, state = self._rule.states, optimizer.state
        if any(name not in state.get(p, {}) for p in parameters for name in names):
            raise CannotCompile("an optimizer has not begun its state")
        self._steps = _counters(optimizer, parameters)
        self._states = [state.get(parameter) for parameter in parameters]
        self._names = [*names, "step"] if self._steps else names
        self._held = [held.get(name) for held in self._states if held for name in self._names]
        rows = []
        for i, parameter in enumerate(parameters):
            moments = [state[parameter][name] for name in names]
            others = map(_flat, (*moments, *target[i : i + 1]))
            rows.append([_flat(parameter), places[id(parameter)], *others])
        self._layers = layers
        self._followers = {row[0].ctypes.data: row[-1] for row in rows} if target else {}
        self._table = kernels.Tensors(rows, self._rule)
        self._counters = np.array([step.data_ptr() for step in self._steps], np.int64)
        self._counts: NDArray[np.float64] = np.empty(len(self._steps))
        self._count = kernels.count_kernel()
        self._run = kernels.optimizer_kernel(self._rule)
        self._numbers: Array = np.zeros((len(rows), NUMBERS), np.float32)
        self._is_adam = self._rule.name == "adam"
        self._options: NDArray[np.float64] = np.zeros(3)
        self._largest: NDArray[np.float64] = np.zeros(1)
        self._option_names = [name for name in OPTIONS if name in group]
        self._read: tuple[Any, ...] = ()
        self._tape: Tape | None = None
        self._moved = [*parameters, *target]
        self._tensors = [*parameters, *target, *self._held]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]

    def holds(self) -> bool:
        """Whether parameters, targets and state are still where they were."""
        optimizer = self.optimizer
        groups = optimizer.param_groups
        if len(groups) != 1 or groups[0] is not self._group or "step" in vars(optimizer):
            return False
        if not all([parameter.requires_grad for parameter in self.parameters]):
            return False
        states = list(map(optimizer.state.get, self.parameters))
        if not all(map(is_, states, self._states)):
            return False
        held = [state.get(name) for state in states if state for name in self._names]
        if not all(map(is_, held, self._held)):
            return False
        return list(map(Tensor.data_ptr, self._tensors)) == self._addresses

    def on_tape(self, tape: Tape, *, clip: bool = False) -> None:
        """Let a tape make a step. Before it runs call `prepare`, and afterwards `has_moved`.

        Args:
            tape: What does it.
            clip: Whether it scales the gradients first so that their norm is at most what
                `prepare` was told, as `torch.nn.utils.clip_grad_norm_` does it.
        """
        if clip:
            self.clip_on_tape(tape)
        saved: list[_Saved] = []
        tape.lay(self._layers, functools.partial(self._save, saved))
        if self._steps:
            tape.call(self._count, self._counters, self._counts)
        if self._is_adam:
            tape.call(adam_kernel(), self._counts, self._options, self._numbers)
        tape.call(self._run, self._table.table, self._numbers)
        tape.lay(self._layers, functools.partial(self._restore, saved))

    def clip_on_tape(self, tape: Tape) -> None:
        """Let a tape scale the gradients as `on_tape` says."""
        tape.call(clip_kernel(), self._table.table, self._largest)

    def _save(self, saved: list[_Saved], tape: Tape) -> None:
        """Let a tape keep the biases of ablated neurons, and what follows them."""
        saved.clear()
        for layer in self._layers:
            if layer.dead is None:
                continue
            follower = self._followers.get(layer.bias.ctypes.data)
            kept = zeros(2, layer.dead.size)
            saved.append((layer.bias, follower, layer.dead, kept))
            tape.call(save_kernel(), layer.bias, layer.dead, kept[0])
            if follower is not None:
                tape.call(save_kernel(), follower, layer.dead, kept[1])

    def _restore(self, saved: list[_Saved], tape: Tape) -> None:
        for bias, follower, where, kept in saved:
            tape.call(restore_kernel(), bias, where, kept[0])
            if follower is not None:
                tape.call(follow_kernel(), follower, where, kept[1], kept[0], self._numbers)

    def prepare(self, tau: float = 0.0, largest: float = math.inf) -> None:
        """Read the optimizer's options for the steps to come.

        Args:
            tau: What targets, if there are some, take from the parameters.
            largest: The largest norm of gradients, where they are clipped.
        """
        self._largest[0] = largest
        group = self._group
        options = (tau, *[group[name] for name in self._option_names])
        if options != self._read:
            self._numbers[:] = self._numbers_of(group, 1.0, tau)
            if self._is_adam:
                self._options[:] = float(group["lr"]), *group["betas"]
            self._read = options

    def has_moved(self) -> None:
        """Tell autograd that parameters and targets have changed."""
        increment_version(self._moved)

    def step(self, tau: float = 0.0) -> None:
        """Make a step, and a Polyak average of the targets with `tau` if there are some."""
        if self._tape is None:
            self._tape = Tape()
            self.on_tape(self._tape)
        self.prepare(tau)
        self._tape.run()
        self.has_moved()


def _only_group(optimizer: Optimizer) -> dict[str, Any]:
    name = type(optimizer).__name__
    if torch_class(optimizer) not in NAMES:
        raise CannotCompile(f"{name} is an optimizer without a kernel")
    if "step" in vars(optimizer):
        raise CannotCompile(f"the step of {name} is wrapped")
    if len(optimizer.param_groups) != 1:
        raise CannotCompile(f"{name} has several groups of parameters")
    group: dict[str, Any] = optimizer.param_groups[0]
    for option in ("capturable", "differentiable", "lazy"):
        if group.get(option):
            raise CannotCompile(f"{name} has {option}=True")
    return group


def _counters(optimizer: Optimizer, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the numbers of steps that an optimizer has made, of each parameter or of none."""
    states = [optimizer.state.get(parameter, {}) for parameter in parameters]
    steps = [state["step"] for state in states if "step" in state]
    if not all(torch.is_tensor(step) for step in steps):
        raise CannotCompile("an optimizer does not count its steps in tensors")
    if steps and len(steps) < len(parameters):
        raise CannotCompile("an optimizer counts the steps of some parameters only")
    return steps


def _flat(tensor: Tensor) -> Array:
    if not (tensor.is_cpu and tensor.dtype == torch.float32 and tensor.is_contiguous()):
        raise CannotCompile("an optimizer's tensors are not contiguous float32 on the CPU")
    return tensor.detach().numpy().reshape(-1)
