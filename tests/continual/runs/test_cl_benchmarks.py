"""Benchmarks: labels start from zero, the seed fixes permutations, data is found or named."""

from __future__ import annotations

import pytest
import torch

from continual.runs.benchmarks import as_avalanche, load_tasks, rotated
from continual.runs.data import TaskData
from sparse_core.checks import InputError


def test_split_digits_have_their_own_classes_from_zero():
    tasks = load_tasks("split-digits", 5)
    assert sum(len(task.train_y) + len(task.test_y) for task in tasks) == 1797
    for task in tasks:
        assert set(task.train_y.tolist()) == set(task.test_y.tolist()) == {0, 1}
        assert task.train_x.dtype == torch.float32 and task.train_x.shape[1] == 64
        assert 0 <= float(task.train_x.min()) and float(task.train_x.max()) == 1


def test_permuted_digits_are_the_same_digits_in_another_order():
    tasks = load_tasks("permuted-digits", 3, seed=4)
    original = load_tasks("split-digits", 1)[0]
    assert torch.equal(tasks[0].train_x, original.train_x)
    for task in tasks[1:]:
        assert torch.equal(task.train_x.sort(1).values, original.train_x.sort(1).values)
        assert torch.equal(task.test_y, original.test_y)
        in_place = (task.train_x == original.train_x).all(0)
        assert float(in_place.float().mean()) < 0.5
    assert not torch.equal(tasks[1].train_x, tasks[2].train_x)


def test_permutations_are_fixed_by_the_seed_and_by_the_task():
    few, many = load_tasks("permuted-digits", 2, seed=4), load_tasks("permuted-digits", 4, seed=4)
    assert torch.equal(few[1].train_x, many[1].train_x)
    assert not torch.equal(few[1].train_x, load_tasks("permuted-digits", 2, seed=5)[1].train_x)


def test_train_and_test_are_apart_and_fixed():
    first, again = load_tasks("split-digits", 1)[0], load_tasks("split-digits", 1, seed=9)[0]
    assert torch.equal(first.test_x, again.test_x)
    assert len(first.test_y) == 360
    assert sorted(torch.bincount(first.test_y).tolist()) == [35, 35, 36, 36, 36, 36, 36, 36, 37, 37]


def test_samples_are_drawn_by_the_seed_for_each_task():
    all_of_it = load_tasks("permuted-digits", 1)[0]
    few = load_tasks("permuted-digits", 3, seed=4, samples=50)
    assert [len(task.train_y) for task in few] == [50] * 3
    assert [len(task.test_y) for task in few] == [360] * 3
    assert not torch.equal(few[1].train_y, few[2].train_y)
    rows = {tuple(row.tolist()) for row in all_of_it.train_x}
    assert all(tuple(row.tolist()) in rows for row in few[0].train_x)
    again = load_tasks("permuted-digits", 3, seed=4, samples=50)
    assert torch.equal(few[2].train_x, again[2].train_x)
    assert not torch.equal(
        few[0].train_y, load_tasks("permuted-digits", 1, 5, samples=50)[0].train_y
    )
    assert len(load_tasks("split-digits", 5, samples=9999)[0].train_y) == 288


def test_rotated_images_turn_by_equal_steps():
    x = torch.zeros(2, 25)
    x[0, 2] = 1.0  # the middle of the upper edge
    x[1, 12] = 1.0  # the middle
    images = TaskData(x, torch.tensor([0, 1]), x, torch.tensor([0, 1]))
    tasks = rotated(images, 2)
    assert torch.equal(tasks[0].train_x, x)
    edge, middle = tasks[1].train_x  # by a quarter of a turn
    assert torch.allclose(middle, x[1], atol=1e-5)
    assert int(edge.argmax()) in (10, 14) and float(edge.max()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(tasks[1].test_x, tasks[1].train_x)


def test_avalanche_sees_tasks_with_labels():
    benchmark = as_avalanche(load_tasks("split-digits", 5))
    assert [experience.task_label for experience in benchmark.train_stream] == [0, 1, 2, 3, 4]
    x, y, label = benchmark.test_stream[3].dataset[0]
    assert x.shape == (64,) and y in (0, 1) and label == 3


def test_unknown_benchmarks_are_named():
    with pytest.raises(ValueError, match="benchmark='imagenet': must be one of split-digits"):
        load_tasks("imagenet", 2)


def test_missing_data_is_named_with_what_is_expected(tmp_path, monkeypatch):
    monkeypatch.delenv("DST_DATA", raising=False)
    with pytest.raises(InputError, match=r"set DST_DATA .* MNIST/raw"):
        load_tasks("split-mnist", 5)
    monkeypatch.setenv("DST_DATA", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load_tasks("permuted-mnist", 2)
    assert str(tmp_path) in str(caught.value) and "MNIST/raw" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mnist(mnist):
    tasks = load_tasks("split-mnist", 5, data=mnist)
    assert sum(len(task.train_y) for task in tasks) == 60000
    assert sum(len(task.test_y) for task in tasks) == 10000
    assert set(tasks[4].test_y.tolist()) == {0, 1}
    whole = torch.cat([task.train_x for task in tasks])
    assert whole.shape == (60000, 784)
    assert abs(float(whole.mean())) < 1e-3 and abs(float(whole.std()) - 1) < 1e-3
