"""CrossQ's batch renormalisation, with a gradient at features that are constant.

After its warm-up sb3-contrib's `BatchRenorm` normalises by a mean that the batch is corrected to,

    mu = mean - d sqrt(var) / r

whose derivative by `var` is infinite where `var` is zero. A neuron without active inputs is
constant over every batch, so that the derivative by its activation is infinity times zero: NaN.
Dense networks meet this at silent ReLUs only, which drop it. The standard deviation grows in both
directions from a constant feature, and zero is the slope between them: here the derivative of
sqrt(var) is zero at zero. Values, and gradients of features that vary, are sb3-contrib's to the
bit.
"""

from __future__ import annotations

import torch
from sb3_contrib.common.torch_layers import BatchRenorm1d
from torch import Tensor, nn


class ConstantSafeBatchRenorm1d(BatchRenorm1d):
    """`BatchRenorm1d` whose gradient is finite at features that are constant over the batch.

    Made from one in place by `make_safe`: parameters, statistics and their names stay.
    """

    ra_mean: Tensor
    ra_var: Tensor
    steps: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(batch, features)`; in training mode the running statistics move."""
        mean, var = self._statistics(x) if self.training else (self.ra_mean, self.ra_var)
        x = (x - mean[None]) / (var[None] + self.eps).sqrt()
        return self.scale * x + self.bias if self.affine else x

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the variance to normalise a training batch by."""
        mean, var = x.mean(dim=0), x.var(dim=0)
        chosen = self._renormalised(mean, var) if self.steps > self.warmup_steps else (mean, var)
        self.ra_mean += self.momentum * (mean.detach() - self.ra_mean)
        self.ra_var += self.momentum * (var.detach() - self.ra_var)
        self.steps += 1
        return chosen

    def _renormalised(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        std, running_std = (var + self.eps).sqrt(), (self.ra_var + self.eps).sqrt()
        r = (std / running_std).detach().clamp(1 / self.rmax, self.rmax)
        d = ((mean - self.ra_mean) / running_std).detach().clamp(-self.dmax, self.dmax)
        return mean - d * _root(var) / r, var / (r**2)


def make_safe(network: nn.Module) -> None:
    """Give a network's layers of batch renormalisation finite gradients, in place."""
    for layer in network.modules():
        if type(layer) is BatchRenorm1d:
            layer.__class__ = ConstantSafeBatchRenorm1d


def _root(var: Tensor) -> Tensor:
    """Return sqrt(var), with derivative zero where it is zero."""
    varies = var > 0
    return torch.where(varies, torch.where(varies, var, var.new_ones(())).sqrt(), 0.0)
