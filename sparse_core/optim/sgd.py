"""Stochastic gradient descent with momentum."""

from __future__ import annotations

import torch

from sparse_core.kernels.optimizer_steps import Rule
from sparse_core.kernels.optimizers import Row, sgd_numbers
from sparse_core.optim.compiled import CompiledStep, Group
from sparse_core.optim.gathering import State

_PLAIN = Rule("sgd")
_MOMENTUM = Rule("sgd", momentum=True)
_NESTEROV = Rule("sgd", momentum=True, nesterov=True)


class SGD(CompiledStep, torch.optim.SGD):
    """`torch.optim.SGD` (momentum, dampening, Nesterov's: Sutskever et al. 2013) in one kernel.

    It takes the options of `torch.optim.SGD`; `foreach` and `fused` make no difference.
    """

    def _rule(self, group: Group) -> Rule:
        if not group["momentum"]:
            return _PLAIN
        return _NESTEROV if group["nesterov"] else _MOMENTUM

    def _numbers(self, group: Group, step: float) -> Row:
        return sgd_numbers(
            step == 1,
            float(group["lr"]),
            float(group["momentum"]),
            float(group["dampening"]),
            float(group["weight_decay"]),
            maximize=bool(group["maximize"]),
        )

    def _begin(self, state: State) -> None:
        """Steps are not counted: a tensor that has a momentum buffer has been trained."""
