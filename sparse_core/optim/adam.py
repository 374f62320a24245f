"""Adam and AdamW, with L2 penalty or decoupled weight decay, and AMSGrad."""

from __future__ import annotations

import torch

from sparse_core.kernels.optimizer_steps import Rule
from sparse_core.kernels.optimizers import Row, adam_numbers
from sparse_core.optim.compiled import CompiledStep, Group

_ADAM, _AMSGRAD = Rule("adam"), Rule("adam", amsgrad=True)


class Adam(CompiledStep, torch.optim.Adam):
    """`torch.optim.Adam` (Kingma & Ba 2015, Alg. 1; AMSGrad: Reddi et al. 2018) in one kernel.

    It takes the options of `torch.optim.Adam`; `foreach` and `fused` make no difference.
    """

    def _rule(self, group: Group) -> Rule:
        return _AMSGRAD if group["amsgrad"] else _ADAM

    def _numbers(self, group: Group, step: float) -> Row:
        first, second = group["betas"]
        return adam_numbers(
            step,
            float(group["lr"]),
            (float(first), float(second)),
            float(group["eps"]),
            float(group["weight_decay"]),
            decoupled=self._decoupled(group),
            maximize=bool(group["maximize"]),
        )

    def _decoupled(self, group: Group) -> bool:
        """Return whether weight decay applies to the weights and not to their gradients."""
        return bool(group.get("decoupled_weight_decay", False))


class AdamW(Adam, torch.optim.AdamW):
    """`torch.optim.AdamW` (Loshchilov & Hutter 2019, Alg. 2) in one kernel.

    It takes the options of `torch.optim.AdamW`; `foreach` and `fused` make no difference.
    """

    def _decoupled(self, group: Group) -> bool:
        return True
