"""Online streams: a task is what boundaries say or, where there are none, what samples carry."""

from __future__ import annotations

import pytest
import torch

from continual import TaskMasks
from continual.avalanche_compat import avalanche
from continual.tasks.experiences import labels_of
from tests.continual.tiny_tasks import (
    logits,
    make_benchmark,
    make_config,
    make_mlp,
    make_strategy,
    make_tasks,
)

scenarios = avalanche.benchmarks.scenarios


def split(stream, size=16, **options):
    return scenarios.split_online_stream(stream, experience_size=size, seed=0, **options)


def train(model, stream, epochs=2, **options):
    strategy = make_strategy(model, epochs=epochs, **options)
    for experience in stream:
        strategy.train(experience, eval_streams=[])
    return model


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("isolation", ["hard", "none"])
def test_without_boundaries_tasks_are_the_labels_of_the_samples(isolation, backend):
    """Three parts of each of three tasks: not nine tasks."""
    tasks = make_tasks()
    config = make_config("rigl", backend=backend)
    model = TaskMasks(make_mlp(), config, isolation=isolation)
    strategy = make_strategy(model, epochs=2)
    first = None
    for experience in split(make_benchmark(tasks).train_stream):
        strategy.train(experience, eval_streams=[])
        if model.label == 1 and first is None:
            first = logits(model, 0, tasks[0])
    assert model.labels == [0, 1, 2]
    assert model.engine.steps == 3 * 3 * 2
    assert model.label == 2  # nothing says that it is over
    if isolation == "hard":
        assert torch.equal(logits(model, 0, tasks[0]), first)


def test_with_and_without_boundaries_the_same_is_learnt():
    """Labels say where tasks end as boundaries do; here the data is the same, part by part."""
    states = []
    for access in (True, False):
        torch.manual_seed(3)
        stream = split(make_benchmark(make_tasks()).train_stream, access_task_boundaries=access)
        model = TaskMasks(make_mlp(), make_config("set"))
        torch.manual_seed(4)
        states.append(train(model, stream).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_labels_that_a_stream_is_given_count():
    """`with_task_labels` lets an experience say what its samples do."""
    parts = list(split(make_benchmark(make_tasks()).train_stream))
    stream = avalanche.benchmarks.with_task_labels(
        scenarios.generic_scenario.EagerCLStream("train_online", parts)
    )
    model = TaskMasks(make_mlp(), make_config())
    assert train(model, stream).labels == [0, 1, 2]


def test_a_task_that_comes_back_is_refused_under_isolation_and_goes_on_without():
    tasks = make_tasks(2)
    parts = list(split(make_benchmark(tasks).train_stream, size=24))
    order = [parts[0], parts[2], parts[1]]
    model = TaskMasks(make_mlp(), make_config())
    with pytest.raises(ValueError, match="task 0 has ended"):
        train(model, order)
    assert (model.labels, model.label) == ([0, 1], 1)  # the refused part ended no task
    free = train(TaskMasks(make_mlp(), make_config(), isolation="none"), order)
    assert (free.labels, free.label) == ([0, 1], 0)


def test_parts_that_mix_tasks_are_refused_in_one_line():
    """Avalanche would not pass the samples' labels on, and one task would get all."""
    stream = scenarios.split_continuous_linear_decay_stream(
        make_benchmark(make_tasks(2)).train_stream,
        experience_size=24,
        iters_per_virtual_epoch=6,
        beta=2,
        shuffle=True,
    )
    torch.manual_seed(0)
    mixed = next(e for e in stream if len(e.dataset.targets_task_labels.uniques) > 1)
    for isolation in ("hard", "none"):
        model = TaskMasks(make_mlp(), make_config(), isolation=isolation)
        with pytest.raises(ValueError, match=r"^tasks \[0, 1\] in one experience of an online"):
            train(model, [mixed])
        assert model.labels == []


def test_neither_boundaries_nor_labels_are_refused_in_one_line():
    tasks = make_tasks(2)
    data = [
        avalanche.benchmarks.utils.as_classification_dataset(Labelled(task.train_x, task.train_y))
        for task in tasks
    ]
    benchmark = avalanche.benchmarks.benchmark_from_datasets(train=data)
    model = TaskMasks(make_mlp(), make_config())
    with pytest.raises(ValueError, match=r"^online stream without task boundaries: [^\n]*$"):
        train(model, split(benchmark.train_stream))
    assert model.labels == []
    marked = split(benchmark.train_stream, access_task_boundaries=True)
    assert train(model, marked).labels == [0, 1]


class Labelled(torch.utils.data.TensorDataset):
    def __init__(self, x, y):
        super().__init__(x, y)
        self.targets = y.tolist()


def test_labels_of_experiences():
    stream = make_benchmark(make_tasks(2)).train_stream
    assert [labels_of(e) for e in stream] == [[0], [1]]
    for access in (True, False):
        parts = split(stream, size=24, access_task_boundaries=access)
        assert [labels_of(e) for e in parts] == [[0], [0], [1], [1]]
