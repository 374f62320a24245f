"""Metrics of continual learning, from the accuracy matrix.

With `a[i][j]` the accuracy on task j after training on task i, and T the last task:

    average             mean_j a[T][j]
    forgetting          mean_{j < T} max_{j <= i < T} a[i][j] - a[T][j]   (Chaudhry et al. 2018)
    backward transfer   mean_{j < T} a[T][j] - a[j][j]               (Lopez-Paz and Ranzato 2017)
    forward transfer    mean_{j > 0} a[j-1][j] - b[j], b untrained        (same)
    intransigence       mean_j r[j] - a[j][j], r of joint training   (Chaudhry et al. 2018)
"""

from __future__ import annotations

from collections.abc import Sequence

from sparse_core.checks import InputError

Matrix = Sequence[Sequence[float]]


def average_accuracy(matrix: Matrix) -> float:
    """Return the mean accuracy over all tasks seen, after the last of them.

    Args:
        matrix: Row i holds the accuracies on tasks 0 to i (or more) after task i.
    """
    seen = len(matrix)
    return sum(matrix[-1][:seen]) / seen


def forgetting(matrix: Matrix) -> float:
    """Return by how much accuracy fell from its best, on average over all tasks but the last.

    Args:
        matrix: As above. With one task there is nothing to forget: 0.
    """
    last = len(matrix) - 1
    falls = [
        max(row[task] for row in matrix[task:last]) - matrix[last][task] for task in range(last)
    ]
    return sum(falls) / last if last else 0.0


def backward_transfer(matrix: Matrix) -> float:
    """Return by how much later tasks changed the accuracy on earlier ones; below 0: they harmed.

    Args:
        matrix: As above. With one task: 0.
    """
    last = len(matrix) - 1
    changes = [matrix[last][task] - matrix[task][task] for task in range(last)]
    return sum(changes) / last if last else 0.0


def forward_transfer(matrix: Matrix, untrained: Sequence[float]) -> float:
    """Return by how much earlier tasks helped with one that is yet to come.

    Args:
        matrix: Rows with the accuracies on all tasks, those not yet trained included.
        untrained: Accuracy of the untrained network on each task.

    Raises:
        ValueError: If a row ends before the next task.
    """
    gains = []
    for task in range(1, len(matrix)):
        row = matrix[task - 1]
        if len(row) <= task:
            raise InputError(f"matrix row {task - 1} has {len(row)} tasks: must reach task {task}")
        gains.append(row[task] - untrained[task])
    return sum(gains) / len(gains) if gains else 0.0


def intransigence(matrix: Matrix, reference: Sequence[float]) -> float:
    """Return by how much less is learnt of a task than a reference network learns of it.

    Args:
        matrix: As above.
        reference: Accuracy of the reference on each task.
    """
    gaps = [reference[task] - matrix[task][task] for task in range(len(matrix))]
    return sum(gaps) / len(gaps)
