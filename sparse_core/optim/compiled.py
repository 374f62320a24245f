"""The step that our optimizers share: each parameter group is one kernel call.

What a kernel cannot take (another device or number format, gaps in memory, sparse gradients,
options that change what torch records) goes to the step of torch's class, which finds the state as
it would have left it.

With `lazy=True`, of an optimizer or of a parameter group, entries whose gradient is exactly zero
sit the step out: neither they nor their moments change. That is for embeddings, where the rows that
no token of the batch named have no gradient, and a batch names few. Dense Adam goes on moving such
a row by its decaying moments; here it rests until it is named again. What follows from it:

    moments         decay once for each batch that names the row, so they last longer than in Adam
    bias            is corrected for the steps of the tensor, not of the row: after t steps the
                    first one of a row moves it by lr (1 - b1) / sqrt(1 - b2) for large t (about
                    3 lr by default), where Adam's own first step moves by lr
    weight decay    applies to the rows that are named

It is what `torch.optim.SparseAdam` does, but for entries of a named row whose gradient happens to
be zero: these it moves. SGD without momentum and weight decay is lazy as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as _hooks

from sparse_core.kernels.optimizer_steps import Rule
from sparse_core.kernels.optimizers import Row
from sparse_core.optim.gathering import Gathered, State, has_begun, obstacles

Group = dict[str, Any]


class CompiledStep(Optimizer):
    """Replaces the step of torch's optimizer that is the next base class.

    A subclass says which kernel a parameter group takes and the numbers of a step. State is
    torch's, under torch's names.

    Args:
        params: Parameters or groups of them, as torch's optimizers take them.
        args: Options of torch's optimizer.
        lazy: Whether entries without a gradient sit a step out.
        options: Options of torch's optimizer.
    """

    def __init__(self, params: Any, *args: Any, lazy: bool = False, **options: Any) -> None:
        super().__init__(params, *args, **options)
        if lazy:
            self.defaults["lazy"] = True
            for group in self.param_groups:
                group.setdefault("lazy", True)

    def _rule(self, group: Group) -> Rule:
        """Return the kernel of a parameter group: the same object for the same options."""
        raise NotImplementedError

    def _numbers(self, group: Group, step: float) -> Row:
        """Return the numbers of a tensor's step, the `step`-th."""
        raise NotImplementedError

    def _begin(self, state: State) -> None:
        """Write what state a tensor has before its first step, apart from moments."""
        state["step"] = torch.tensor(0.0, dtype=torch.float32)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step.

        Args:
            closure: Computes the loss and its gradients; None: gradients are there.

        Returns:
            What the closure returned.
        """
        if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            return _profiled(self) if closure is None else _profiled(self, closure)
        args: tuple[Any, ...] = (self,) if closure is None else (self, closure)
        kwargs: dict[str, Any] = {}
        before = _hooks._global_optimizer_pre_hooks.values()
        for hook in chain(before, self._optimizer_step_pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        loss = self._step(*args[1:], **kwargs)
        self._optimizer_step_code()
        after = _hooks._global_optimizer_post_hooks.values()
        for hook in chain(self._optimizer_step_post_hooks.values(), after):
            hook(self, args, kwargs)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients.

        Args:
            set_to_none: Whether they become None; else they become zero.
        """
        if not set_to_none or torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    step.hooked = True  # type: ignore[attr-defined]  # torch adds no hooks and no profiling

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        kept, work = self._kept(), []
        for index, group in enumerate(self.param_groups):
            rule, parameters = self._rule(group), [p for p in group["params"] if p.grad is not None]
            if group.get("lazy"):
                rule = _lazy(rule)
            gradients = [p.grad for p in parameters]
            found = kept.get(index)
            if found is not None and not found.holds(rule, parameters):
                found = None
            obstacle = self._option(group)
            as_they_are = found is not None and found.takes(gradients)
            if obstacle is None and not as_they_are:
                states = [self.state.get(p) or {} for p in parameters]
                obstacle = next(obstacles(rule, parameters, states), None)
            if obstacle is not None:
                self._torchs_step(obstacle)
                return loss
            if not as_they_are:
                gradients = [g.contiguous() for g in gradients]
            if parameters:
                work.append((index, group, rule, parameters, gradients, found))
        for index, group, rule, parameters, gradients, found in work:
            if found is None:
                found = kept[index] = self._gather(rule, parameters)
            counts = found.count()
            if min(counts) == max(counts):
                found.numbers[:] = self._numbers(group, counts[0])
            else:
                for row, count in zip(found.numbers, counts, strict=True):
                    row[:] = self._numbers(group, count)
            found.run(gradients)
        return loss

    def _kept(self) -> dict[int, Gathered]:
        """Return what was gathered of parameter groups, unless state was replaced since."""
        memory: dict[str, Any] = self.__dict__  # neither copied nor pickled
        kept: dict[int, Gathered] = memory.setdefault("_gathered", {})
        states, known = list(self.state.values()), memory.get("_states", [])
        if len(states) != len(known) or not all(map(is_, states, known)):
            kept.clear()
        return kept

    def _gather(self, rule: Rule, parameters: list[Tensor]) -> Gathered:
        """Make what state is lacking and find all addresses."""
        states = [self.state[p] for p in parameters] if rule.states else []
        new = [not has_begun(rule, state) for state in states] or [True] * len(parameters)
        for parameter, state, is_new in zip(parameters, states, new, strict=False):
            if is_new:
                self._begin(state)
                for name in rule.states:
                    state[name] = torch.zeros_like(parameter, requires_grad=False)
        self.__dict__["_states"] = list(self.state.values())
        return Gathered(rule, parameters, states, new)

    # What has no kernel ---------------------------------------------------------------------------

    def _option(self, group: Group) -> str | None:
        """Return the option, or what acts like one, that no kernel has."""
        if group.get("capturable"):
            return "capturable=True"
        if group["differentiable"]:
            return "differentiable=True"
        if "grad_scale" in self.__dict__:
            return "gradients with a scale"
        return "torch.compile" if torch.compiler.is_compiling() else None

    def _torchs_step(self, obstacle: str) -> None:
        """Make the step of torch's class, around which hooks are called already."""
        told: set[str] = self.__dict__.setdefault("_told", set())
        if obstacle not in told:
            told.add(obstacle)
            warnings.warn(
                f"sparse_core.optim.{type(self).__name__}: no kernel for {obstacle}; "
                "torch's own step is taken",
                stacklevel=4,
            )
        step = super().step.__func__  # type: ignore[attr-defined]
        lazy = [p for g in self.param_groups if g.get("lazy") for p in g["params"]]
        resting = [self._rest(p) for p in lazy if p.grad is not None]
        (step.__wrapped__ if getattr(step, "hooked", False) else step)(self)
        for wake in resting:
            wake()

    @torch.no_grad()
    def _rest(self, parameter: Tensor) -> Callable[[], None]:
        """Return what undoes the coming step where the gradient is zero."""
        where = parameter.grad == 0
        value = parameter[where]
        moments = {name: m[where] for name, m in self._moments(parameter)}

        @torch.no_grad()
        def undo() -> None:
            parameter[where] = value
            for name, moment in self._moments(parameter):
                moment[where] = moments.get(name, 0.0)

        return undo

    def _moments(self, parameter: Tensor) -> list[tuple[str, Tensor]]:
        """Return the state of a parameter that has its shape, but what counts steps."""
        items = self.state.get(parameter, {}).items()
        shape = parameter.shape
        return [(n, t) for n, t in items if n != "step" and torch.is_tensor(t) and t.shape == shape]


@cache
def _lazy(rule: Rule) -> Rule:
    return replace(rule, lazy=True)


_profiled = Optimizer.profile_hook_step(CompiledStep._step)
