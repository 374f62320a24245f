"""Metrics of continual learning, from the accuracy matrix.

With a[i][j] the accuracy on task j after training on task i, and T the last task:

average      mean_j a[T][j]
forgetting   mean_j (max_{i < T} a[i][j] - a[T][j]), j < T  (Chaudhry et al. 2018, section 3)
"""

from __future__ import annotations

from collections.abc import Sequence

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
