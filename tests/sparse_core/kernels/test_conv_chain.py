"""Chains of convolutions on tiles against torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparse_core.kernels.conv import convolution
from sparse_core.kernels.conv_chain import Passage
from sparse_core.kernels.conv_shape import Window
from sparse_core.kernels.conv_stages import GIVEN, Line, Moments, Norm, Stage, Wanted
from tests.sparse_core.convolutions import few_patches
from tests.sparse_core.kernels.test_conv import images, pattern_of, tensor

__all__ = ["few_patches"]

pytestmark = pytest.mark.usefixtures("few_patches")

CLOSE = 1e-4
"""Of the largest number: variances of few numbers, three layers deep."""


def made(group, stride, trained, beside, seed):
    """Return three stages with a block in them, and their parameters in float64."""
    torch.manual_seed(seed)
    sizes = [(7, 6), (4, 3), (4, 3)] if stride == 2 else [(7, 6)] * 3
    stages, tensors = [], []
    for i, size in enumerate(sizes):
        window = Window(8 if i else 3, 8, (3, 3), (1 if i else stride,) * 2, (1, 1, 1, 1))
        pattern = pattern_of(window, group, seed + i, unstructured=False)
        dense = torch.randn(8, window.fan_in) * torch.from_numpy(pattern.to_mask())
        numbers = [torch.randn(8), torch.rand(8) + 0.5, torch.randn(8)]
        mean, variance = (torch.randn(8).numpy(), torch.rand(8).numpy() + 0.5)
        moments = None if trained else (mean, variance)
        norm = Norm(numbers[1].numpy(), numbers[2].numpy(), 1e-5, moments) if i < 2 else None
        added = {0: None, 1: GIVEN if beside else 1, 2: 1}[i]
        values = pattern.condense(dense.numpy(), pattern.size)
        products = convolution(pattern, window, *size)
        stages.append(Stage(products, values, numbers[0].numpy(), norm, i < 2, added))
        tensors.append([t.double().requires_grad_() for t in (dense, *numbers)])
    return stages, tensors


def densely(stages, tensors, x, given):
    before = []
    for stage, (dense, bias, scale, shift) in zip(stages, tensors, strict=True):
        before.append(x)
        window = stage.operation.layout.window
        filters = dense.reshape(window.filters, window.channels, *window.kernel)
        x = F.conv2d(x, filters, bias, window.stride, 1)
        if stage.norm is not None:
            at = stage.norm.given
            numbers = (None, None) if at is None else [torch.from_numpy(n).double() for n in at]
            x = F.batch_norm(x, *numbers, scale, shift, at is None)
        if stage.added is not None:
            x = x + (given if stage.added == GIVEN else before[stage.added])
        x = F.relu(x) if stage.relu else x
    return x


@pytest.mark.parametrize(
    ("batch", "group", "stride", "trained", "beside", "last", "threads"),
    [(5, 1, 1, True, False, False, 1), (33, 4, 2, True, True, True, 1),
     (35, 1, 2, False, True, False, 2)],
)  # fmt: skip
def test_chains_are_convolutions_one_after_the_other(
    batch, group, stride, trained, beside, last, threads
):
    stages, tensors = made(group, stride, trained, beside, seed=batch)
    height, width = stages[-1].operation.layout.out
    x = torch.randn(batch, 3, 7, 6)
    given = torch.randn(batch, 8, height, width)
    dy = torch.randn(batch, 8, height, width)
    leaves = [x.double().requires_grad_(), given.double().requires_grad_()]
    y = densely(stages, tensors, *leaves)
    y.backward(dy.double())

    passage = Passage(stages, batch, threads)
    out = passage.forward(images(x, last), images(given, last) if beside else None)
    wanted = [Wanted(True, True, stage.norm is not None) for stage in stages]
    seen = []
    for _ in range(2):  # what is kept serves again
        dx, dgiven, found = passage.backward(
            images(dy, not last), wanted, of_x=True, of_given=beside,
            see=lambda i, *_: seen.append(i),
        )  # fmt: skip
    pairs = [(tensor(out, y.shape), y.detach()), (tensor(dx, x.shape), leaves[0].grad)]
    if beside:
        pairs.append((tensor(dgiven, given.shape), leaves[1].grad))
    for one, stage, (dense, bias, scale, shift) in zip(found, stages, tensors, strict=True):
        pattern = stage.operation.pattern
        values = pattern.condense(dense.grad.numpy(), pattern.size)
        pairs.append((torch.from_numpy(one.values), torch.from_numpy(values)))
        if stage.norm is None or not trained:  # else it is zero but for rounding
            pairs.append((torch.from_numpy(one.bias), bias.grad))
        if stage.norm is not None:
            pairs += [(torch.from_numpy(one.norm[0]), scale.grad)]
            pairs += [(torch.from_numpy(one.norm[1]), shift.grad)]
    for mine, theirs in pairs:
        assert float((mine - theirs).abs().max()) <= CLOSE * (1 + float(theirs.abs().max()))
    assert set(seen) == {0, 1, 2}
    assert (
        passage.backward(images(dy, last), [Wanted(False, False, False)] * 3, of_x=False)[0] is None
    )


def test_moments_of_tiles_are_merged():
    numbers = np.random.default_rng(0).normal(1e3, 1, (3, 20)).astype(np.float32)
    parts = [numbers[:, :16], numbers[:, 16:]]
    moments = [[(row.mean(), row.var() * row.size) for row in part] for part in parts]
    merged = Moments.merged(np.array(moments, np.float32), [16, 4])
    exact = numbers.astype(np.float64)
    np.testing.assert_allclose(merged.mean, exact.mean(1), rtol=1e-6)
    np.testing.assert_allclose(merged.variance, exact.var(1), rtol=1e-3)
    assert merged.count == 20


def test_a_line_by_hand():
    ones = np.ones(1, np.float32)
    norm = Norm(6 * ones, 5 * ones, 1.0, (2 * ones, 3 * ones))  # 6 (y - 2) / sqrt(3 + 1) + 5
    line = Line.through(norm, None, 1)
    assert (line.scale[0], line.shift[0], line.inverse[0]) == (3, -1, 0.5)
    assert line.of_norm(np.array([[7.0, 8.0]])) == ([4], [7])
    assert line.back(np.array([[7.0, 8.0]])) == ([0], [0])
    of_batch = Norm(norm.weight, norm.bias, norm.eps, None)
    line = Line.through(of_batch, Moments(np.array([2.0]), np.array([3.0]), 4), 1)
    assert line.back(np.array([[8.0, 16.0]])) == ([-3 * 16 / 4 / 4], [-3 * 8 / 4])
