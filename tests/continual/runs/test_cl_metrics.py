"""Metrics from the accuracy matrix: by hand, and against Avalanche's own."""

from __future__ import annotations

import pytest

from continual import MaskIsolation, TaskMasks
from continual.avalanche_compat import avalanche
from continual.runs.metrics import (
    average_accuracy,
    backward_transfer,
    forgetting,
    forward_transfer,
    intransigence,
)
from continual.runs.train import accuracy
from tests.continual.tiny_tasks import (
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

SEEN = [[0.9], [0.6, 0.8], [0.7, 0.5, 1.0]]
FULL = [[0.9, 0.4, 0.3], [0.6, 0.8, 0.5], [0.7, 0.5, 1.0]]


@pytest.mark.parametrize("matrix", [SEEN, FULL])
def test_by_hand(matrix):
    assert average_accuracy(matrix) == pytest.approx(2.2 / 3)
    assert forgetting(matrix) == pytest.approx((0.2 + 0.3) / 2)
    assert backward_transfer(matrix) == pytest.approx((-0.2 - 0.3) / 2)
    assert intransigence(matrix, [1.0, 0.9, 0.9]) == pytest.approx((0.1 + 0.1 - 0.1) / 3)


def test_forgetting_counts_from_the_best_and_backward_transfer_from_the_first():
    matrix = [[0.5], [0.8, 0.9], [0.6, 0.9, 0.7]]
    assert forgetting(matrix) == pytest.approx((0.2 + 0.0) / 2)
    assert backward_transfer(matrix) == pytest.approx((0.1 + 0.0) / 2)


def test_one_task_has_nothing_to_forget_or_transfer():
    assert (forgetting([[0.5]]), backward_transfer([[0.5]])) == (0, 0)
    assert forward_transfer([[0.5]], [0.1]) == 0


def test_forward_transfer_needs_the_tasks_to_come():
    assert forward_transfer(FULL, [0.2, 0.3, 0.3]) == pytest.approx((0.1 + 0.2) / 2)
    with pytest.raises(ValueError, match="row 0 has 1 tasks: must reach task 1"):
        forward_transfer(SEEN, [0.2, 0.3, 0.3])


def test_avalanche_measures_the_same():
    tasks = make_tasks()
    model = TaskMasks(make_mlp(), make_config(), isolation="none")
    metrics = avalanche.evaluation.metrics
    evaluator = avalanche.training.plugins.EvaluationPlugin(
        metrics.accuracy_metrics(experience=True),
        metrics.bwt_metrics(stream=True),
        metrics.forgetting_metrics(stream=True),
        loggers=[avalanche.logging.BaseLogger()],
    )
    strategy = make_strategy(model, plugins=[MaskIsolation()], evaluator=evaluator)
    benchmark = make_benchmark(tasks)
    matrix = []
    for index, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, eval_streams=[])
        theirs = strategy.eval(benchmark.test_stream[: index + 1])
        matrix.append([accuracy(model, label, tasks[label]) for label in range(index + 1)])
    for label in range(3):
        name = f"Top1_Acc_Exp/eval_phase/test_stream/Task00{label}/Exp00{label}"
        assert theirs[name] == pytest.approx(matrix[-1][label])
    assert theirs["StreamBWT/eval_phase/test_stream"] == pytest.approx(backward_transfer(matrix))
    # Avalanche counts forgetting from the accuracy right after training, not from the best.
    assert theirs["StreamForgetting/eval_phase/test_stream"] == pytest.approx(
        -backward_transfer(matrix)
    )
    assert backward_transfer(matrix) != 0
