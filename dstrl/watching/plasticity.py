"""How able to learn the networks still are, over the time of a run.

    dormant         fraction of neurons that are dormant at tau = 0.025 (Sokar et al. 2023)
    effective_rank  of the features that the value function is linear in (Kumar et al. 2021)
    weight_rms      root mean square of the active weights (Lyle et al. 2023)
    churn           fraction of the active weights replaced since the curve's last point
    gradient_snr    signal-to-noise ratio of single samples' gradients (Graesser et al. 2022)

Each is the mean over the networks that have it. Nothing is drawn from a random stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from dstrl.policies.mixin import SparsePolicy
from dstrl.watching.metrics import DORMANCY, activity, gradient_noise, representation_rank
from sparse_core import Engine
from sparse_core.metrics import overlap
from sparse_core.metrics.norms import weight_rms

Curve = list[list[float]]


class Plasticity(BaseCallback):
    """Measures the networks each time that a number of environment steps has been collected.

    It does so at the ends of rollouts, where an on-policy algorithm's buffer is whole, and at the
    end of training. A callback that several runs of `learn` are given goes on where it was.

    Args:
        every: Environment steps between two points.

    Attributes:
        curves: Name of a quantity -> (environment steps, value) of each time that it could be
            measured.
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.curves: dict[str, Curve] = {}
        self._masks: dict[str, dict[str, Tensor]] = {}
        self._before = self._latest = 0

    def _on_training_start(self) -> None:
        self._before = self._latest - self.num_timesteps
        self._masks = {name: _masks(engine) for name, engine in _engines(self.model).items()}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self._before + self.num_timesteps >= self._latest + self.every:
            self._measure()

    def _on_training_end(self) -> None:
        self._measure()

    def _measure(self) -> None:
        """Add a point to each curve, unless there is one at this step."""
        x = self._before + self.num_timesteps
        if x == self._latest:
            return
        self._latest = x
        engines = _engines(self.model)
        dormant = activity(self.model)
        found = {
            "dormant": _mean({n: dormant.get(f"{n}/dormant_{DORMANCY[-1]:g}") for n in engines}),
            "effective_rank": representation_rank(self.model),
            "weight_rms": _mean({n: weight_rms(engine) for n, engine in engines.items()}),
            "churn": _mean({n: self._churn(n, engine) for n, engine in engines.items()}),
            "gradient_snr": _mean(gradient_noise(self.model)),
        }
        for name, value in found.items():
            if value is not None:
                self.curves.setdefault(name, []).append([x, float(value)])

    def _churn(self, name: str, engine: Engine) -> float | None:
        before, after = self._masks[name], _masks(engine)
        self._masks[name] = after
        shared = [layer for layer in after if layer in before]
        active = sum(int(before[layer].sum()) for layer in shared)
        if not active:
            return None
        kept = sum(
            overlap(before[layer], after[layer]).retained * int(before[layer].sum())
            for layer in shared
        )
        return 1 - kept / active


def _engines(model: BaseAlgorithm) -> Mapping[str, Engine]:
    assert isinstance(model.policy, SparsePolicy)
    return model.policy.sparse_engines


def _masks(engine: Engine) -> dict[str, Tensor]:
    return {tensor.name: tensor.active().clone() for tensor in engine.tensors}


def _mean(values: Mapping[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None
