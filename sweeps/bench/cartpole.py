"""Why SRigL wants a larger learning rate on CartPole: `python -m sweeps.bench.cartpole`.

Prints how much of PPO's batches is clipped in the first steps of a run of 50,000 (three seeds), how
many of the hidden layers' weights an update moves, and how many of those that it grows the next
one drops again (two seeds). See `docs/results/rl.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger

from dstrl.runs.build import build
from dstrl.runs.spec import RLSpec
from dstrl.watching.callbacks import SparseCallback
from sparse_core.config import SparseConfig
from sparse_core.updaters.scene import Moment
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor
from sweeps.bench.command import exit_code, plain_parser

RATES = ("lin_0.001", "lin_0.003")


def agent(method: str, rate: str, seed: int) -> BaseAlgorithm:
    """Make PPO with a policy that is 90 % sparse, or dense."""
    sparse = SparseConfig(method=method, sparsity=0.0 if method == "dense" else 0.9)
    spec = RLSpec(steps=50_000, seed=seed, sparse=sparse, hyper={"learning_rate": rate})
    return build(spec.resolve())


class Clipping(Logger):
    """A logger that keeps the fraction of samples that PPO clips."""

    def __init__(self) -> None:
        super().__init__(None, [])
        self.fractions: list[float] = []

    def record(self, key: str, value: object, exclude: object = None) -> None:
        """Keep `train/clip_fraction`."""
        if key == "train/clip_fraction":
            self.fractions.append(float(value))  # type: ignore[arg-type]


def clipped(method: str, rate: str, steps: int = 8_000, seeds: int = 3) -> float:
    """Return the mean fraction of samples that are clipped."""
    logger = Clipping()
    for seed in range(seeds):
        model = agent(method, rate, seed)
        model.set_logger(logger)
        model.learn(steps)
    return float(np.mean(logger.fractions))


def moved(method: str, rate: str, steps: int = 20_000, seeds: int = 2) -> tuple[float, float]:
    """Return the fraction of weights that an update moves, and of its growth that goes at once."""
    shares: list[float] = []
    again: list[float] = []
    for seed in range(seeds):
        model = agent(method, rate, seed)
        policy: Any = model.policy
        engine = policy.sparse_engines["policy"]
        hidden = {t.name: t for t in engine.tensors if "mlp_extractor" in t.name}
        grown: dict[str, set[int]] = {}

        def observe(
            moment: Moment,
            deltas: Mapping[str, Delta],
            hidden: dict[str, SparseTensor] = hidden,
            grown: dict[str, set[int]] = grown,
        ) -> None:
            for name, tensor in hidden.items():
                dropped = set(deltas[name].dropped.tolist())
                shares.append(len(dropped) / tensor.count())
                if grown.get(name):
                    again.append(len(grown[name] & dropped) / len(grown[name]))
                grown[name] = set(deltas[name].grown.tolist())

        engine.observers.append(observe)
        model.learn(steps, callback=SparseCallback())
    return float(np.mean(shares)), float(np.mean(again))


def main() -> None:
    """Print the figures."""
    plain_parser("sweeps.bench.cartpole", __doc__).parse_args()
    torch.set_num_threads(1)
    for method, rate in (("dense", RATES[0]), *(("srigl", rate) for rate in RATES)):
        print(f"{method:6s} {rate}  clipped {clipped(method, rate):.1%}", flush=True)
    for method in ("rigl", "srigl"):
        for rate in RATES:
            share, again = moved(method, rate)
            print(f"{method:6s} {rate}  moved {share:.0%}, grown and dropped again {again:.0%}")


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.cartpole", main))
