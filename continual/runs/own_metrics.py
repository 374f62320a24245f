"""Numbers of the user's own in a result, taken of the network after the last task."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from continual.runs.account import Model
from continual.runs.calls import EXPECTED, call
from continual.runs.data import TaskData
from continual.runs.metrics import Matrix
from sparse_core.checks import InputError


def own_metrics(
    metrics: Sequence[str], model: Model, tasks: Sequence[TaskData], matrix: Matrix
) -> dict[str, dict[str, dict[str, float]]]:
    """Call functions of the user's own on what was learnt.

    Args:
        metrics: `package.module:NAME` of each; see `continual.runs.calls.EXPECTED`.
        model: The network; functions get it in evaluation mode.
        tasks: The data of each task.
        matrix: Row i holds the accuracies on tasks 0 to i after task i.

    Returns:
        `measured` with the numbers of each function by name; nothing if there are no functions.

    Raises:
        InputError: In one line, if a function takes other arguments or returns something else.
    """
    found: dict[str, dict[str, float]] = {}
    for metric in metrics:
        model.eval()
        given = call("metrics", metric, model, tasks, matrix)
        if not isinstance(given, Mapping):
            raise _refused(metric, f"gave a {type(given).__name__}")
        found[metric] = {str(name): _finite(metric, name, number) for name, number in given.items()}
    return {"measured": found} if metrics else {}


def _finite(metric: str, name: object, number: Any) -> float:
    if not isinstance(number, numbers.Real) or not math.isfinite(number):
        raise _refused(metric, f"gave {name}={number!r}, which is no finite number")
    return float(number)


def _refused(metric: str, why: str) -> InputError:
    return InputError(f"metrics={metric!r}: {why}; must be {EXPECTED['metrics']}", field="metrics")
