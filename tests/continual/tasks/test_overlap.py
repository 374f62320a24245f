"""Overlap, capacity and FLOPs of tasks, by hand."""

from __future__ import annotations

import pytest
import torch

from continual import TaskMasks
from continual.tasks.overlap import (
    capacity_used,
    jaccard,
    masks_of_shared,
    overlaps,
    task_flops,
    trained_weights,
    visible_masks,
)
from tests.continual.tasks.test_task_masks import learn
from tests.continual.tiny_tasks import FEATURES, make_config, make_mlp, make_tasks


def masks(*rows):
    return {f"{i}": torch.tensor(row).bool() for i, row in enumerate(rows)}


def test_overlap_by_hand():
    one, other = masks([[1, 1], [0, 0]], [1, 0, 0]), masks([[1, 0], [1, 0]], [0, 1, 0])
    assert jaccard(one, other) == 1 / 5
    assert overlaps([one, other]) == [[1.0, 0.2], [0.2, 1.0]]
    assert capacity_used([one]) == 3 / 7
    assert capacity_used([one, other]) == 5 / 7
    assert capacity_used([]) == 0
    assert jaccard(masks([0, 0]), masks([0, 0])) == 0


@pytest.mark.parametrize("share", ["none", "reuse", "forward"])
@pytest.mark.parametrize("backend", ["masked", "auto"])
def test_of_a_model(share, backend):
    model = learn(
        TaskMasks(make_mlp(), make_config("set", backend=backend), share=share), make_tasks()
    )
    shared = [masks_of_shared(model, label) for label in range(3)]
    matrix = overlaps(shared)
    assert [matrix[i][i] for i in range(3)] == [1.0] * 3
    assert (matrix[0][2] == matrix[2][0] == 0) == (share != "reuse")
    used = sum(layer.used for layer in model.capacity())
    total = sum(layer.total for layer in model.capacity())
    assert capacity_used(shared) == used / total
    flops = task_flops(model, (FEATURES,))
    assert flops["dense"] == 2 * (FEATURES * 20 + 20 * 16 + 16 * 3)
    own = 2 * sum(tensor.budget for tensor in model.engine.tensors)
    assert flops["tasks"][0] == own
    assert (flops["tasks"][2] > own) == (share == "forward")
    seen = visible_masks(model, 2)
    assert flops["tasks"][2] == 2 * sum(int(mask.sum()) for mask in seen.values())


def test_condensed_layers_are_counted_as_well():
    model = learn(TaskMasks(make_mlp(), make_config(backend="condensed")), make_tasks())
    flops = task_flops(model, (FEATURES,))
    assert flops["dense"] == 2 * (FEATURES * 20 + 20 * 16 + 16 * 3)
    assert flops["tasks"] == [2 * sum(tensor.budget for tensor in model.engine.tensors)] * 3


@pytest.mark.parametrize("share", ["none", "reuse", "all"])
def test_a_task_trains_what_no_earlier_one_has(share):
    model = learn(
        TaskMasks(make_mlp(), make_config("static", sparsity=0.7), share=share), make_tasks()
    )
    budget = sum(tensor.budget for tensor in model.engine.tensors)
    (head,) = (tensor.budget for tensor in model.engine.tensors if tensor.name == model.head)
    counts = trained_weights(model)
    assert counts[0] == budget
    if share == "reuse":
        assert all(count < budget for count in counts[1:])
    else:
        assert counts == [budget] * 3
    used = sum(layer.used for layer in model.capacity())
    assert sum(counts) - 3 * head == used


def test_dense_layers_are_each_task_s_own():
    config = make_config("static", dense=("output", "input"))
    model = learn(TaskMasks(make_mlp(), config), make_tasks())
    assert trained_weights(model) == [FEATURES * 20 + 20 * 16 // 5 + 16 * 3] * 3


def test_without_isolation_a_task_trains_all_that_is_active():
    sparse = learn(TaskMasks(make_mlp(), make_config("static"), isolation="none"), make_tasks())
    dense = learn(TaskMasks(make_mlp(), make_config("dense"), isolation="none"), make_tasks())
    total = FEATURES * 20 + 20 * 16 + 16 * 3
    assert trained_weights(sparse) == [round(0.2 * total)] * 3
    assert trained_weights(dense) == [total] * 3
