"""RMSprop, centred or not, with momentum."""

from __future__ import annotations

import torch

from sparse_core.kernels.optimizer_steps import Rule
from sparse_core.kernels.optimizers import Row, rmsprop_numbers
from sparse_core.optim.compiled import CompiledStep, Group

_RULES = {
    (momentum, centered): Rule("rmsprop", momentum=momentum, centered=centered)
    for momentum in (False, True)
    for centered in (False, True)
}


class RMSprop(CompiledStep, torch.optim.RMSprop):
    """`torch.optim.RMSprop` (Tieleman & Hinton 2012; centred: Graves 2013) in one kernel.

    It takes the options of `torch.optim.RMSprop`; `foreach` makes no difference.
    """

    def _rule(self, group: Group) -> Rule:
        return _RULES[group["momentum"] > 0, bool(group["centered"])]

    def _numbers(self, group: Group, step: float) -> Row:
        return rmsprop_numbers(
            float(group["lr"]),
            float(group["alpha"]),
            float(group["eps"]),
            float(group["weight_decay"]),
            float(group["momentum"]),
            maximize=bool(group["maximize"]),
        )
