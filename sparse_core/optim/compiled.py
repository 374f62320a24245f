"""The step that our optimizers share: each parameter group is one kernel call.

What a kernel cannot take (another device or number format, gaps in memory, sparse gradients,
options that change what torch records) goes to the step of torch's class, which finds the state as
it would have left it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
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
    """

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
        (step.__wrapped__ if getattr(step, "hooked", False) else step)(self)


_profiled = Optimizer.profile_hook_step(CompiledStep._step)
