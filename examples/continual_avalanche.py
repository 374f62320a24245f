"""Sparse task masks in an ordinary Avalanche program: split digits, five tasks, no forgetting.

python examples/continual_avalanche.py [--epochs 10]
"""

from __future__ import annotations

import argparse

# First, so that Avalanche can be imported where torchvision's compiled operators are missing.
from continual import MaskIsolation, TaskMasks

# isort: split
from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics
from avalanche.logging import TextLogger
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch import nn
from torch.optim import SGD

from continual.runs.benchmarks import as_avalanche, load_tasks
from sparse_core import SparseConfig


def main(epochs: int) -> dict[str, float]:
    """Train on the tasks one after the other; return Avalanche's last metrics."""
    benchmark = as_avalanche(load_tasks("split-digits", tasks=5))
    net = nn.Sequential(
        nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 2)
    )

    model = TaskMasks(net, SparseConfig(method="srigl", sparsity=0.9, update_every=5), tasks=5)
    strategy = Naive(
        model=model,
        optimizer=SGD(model.parameters(), lr=0.1, momentum=0.9),
        train_mb_size=32,
        train_epochs=epochs,
        eval_mb_size=100,
        plugins=[MaskIsolation()],
        evaluator=EvaluationPlugin(
            accuracy_metrics(stream=True), forgetting_metrics(stream=True), loggers=[TextLogger()]
        ),
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)
        seen = benchmark.test_stream[: experience.current_experience + 1]
        metrics = strategy.eval(seen)

    for layer in model.capacity():
        print(f"{layer.name}: {layer.used} of {layer.total} weights used by five tasks")
    return metrics


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    main(parser.parse_args().epochs)
