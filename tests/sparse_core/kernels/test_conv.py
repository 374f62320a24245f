"""Condensed convolutions against those of torch in float64."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_core.kernels.conv import Convolution, why_not
from sparse_core.kernels.conv_shape import Frame, Layout, Patch, Window, patch_for
from sparse_core.kernels.conv_sides import Images
from sparse_core.kernels.format import Pattern
from tests.sparse_core.convolutions import few_patches

__all__ = ["few_patches"]

CLOSE = 2e-5
"""Of the largest number: sums have a few thousand terms at most, rounded at 6e-8 each."""


def pattern_of(window, group, seed, unstructured):
    rng = np.random.default_rng(seed)
    rows = np.zeros((-(-window.filters // group), window.fan_in), bool)
    for row in rows:
        most = int(rng.integers(0, window.fan_in + 1)) if unstructured else window.fan_in // 3
        row[rng.choice(window.fan_in, max(most, int(not unstructured)), replace=False)] = True
    rows[rng.integers(len(rows))] = len(rows) < 2
    return Pattern.from_mask(np.repeat(rows, group, 0)[: window.filters], group)


def images(tensor, last):
    moved = tensor.permute(0, 2, 3, 1) if last else tensor
    return Images(moved.reshape(len(tensor), -1).contiguous().numpy(), last)


def tensor(images, shape):
    batch, channels, height, width = shape
    numbers = torch.from_numpy(images.numbers)
    if images.last:
        return numbers.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
    return numbers.reshape(shape)


def check(window, size, batch, group, seed=0, unstructured=False, last=False, threads=1):
    """Compare forward and backward passes; return ours."""
    rng = torch.Generator().manual_seed(seed)
    pattern = pattern_of(window, group, seed, unstructured)
    shape = (window.filters, window.channels // window.groups, *window.kernel)
    mask = torch.from_numpy(pattern.to_mask())
    dense = torch.randn(window.filters, window.fan_in, generator=rng) * mask
    values = pattern.condense(dense.numpy(), pattern.size + 5)
    convolution = Convolution(pattern, window, *size)
    x = torch.randn(batch, window.channels, *size, generator=rng)
    bias = torch.randn(window.filters, generator=rng)
    dy = torch.randn(batch, window.filters, *window.output(*size), generator=rng)

    leaves = [t.double().requires_grad_() for t in (x, dense.reshape(shape), bias)]
    top, bottom, left, right = window.padding
    padded = F.pad(leaves[0], (left, right, top, bottom))
    y = F.conv2d(padded, *leaves[1:], window.stride, 0, window.dilation, window.groups)
    wanted = [y.detach(), *torch.autograd.grad(y, leaves, dy.double())]
    wanted[2] = torch.from_numpy(pattern.condense(wanted[2].flatten(1).numpy(), values.size))

    given = images(x, last)
    out = convolution.forward(values, given, bias.numpy(), threads)
    dx, dvalues, db = convolution.backward(values, given, images(dy, not last), threads=threads)
    found = [tensor(out, y.shape), tensor(dx, x.shape), *map(torch.from_numpy, (dvalues, db))]
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape
        assert float((mine - theirs).abs().max()) <= CLOSE * (1 + float(theirs.abs().max()))
    return found


@st.composite
def windows(draw):
    small = st.integers(1, 2)
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    channels, filters = draw(st.integers(1, 5)) * groups, 4 * draw(small) * groups
    if groups == 1:
        filters -= draw(st.integers(0, 3))
    pair = st.tuples(st.integers(1, 7), st.integers(1, 7))
    kernel = draw(pair)
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    stride = (draw(st.integers(1, 3)), draw(small))
    return Window(channels, filters, kernel, stride, padding, draw(st.tuples(small, small)), groups)


@settings(max_examples=30)
@given(
    windows(), st.tuples(st.integers(0, 9), st.integers(0, 9)), st.integers(1, 37),
    st.sampled_from([1, 4]), st.booleans(), st.booleans(), st.integers(0, 99),
)  # fmt: skip
@pytest.mark.usefixtures("few_patches")
def test_any_convolution(window, more, batch, group, unstructured, last, seed):
    least = [reach + 1 - sum(window.padding[2 * i : 2 * i + 2]) for i, reach in
             enumerate(window.reach)]  # fmt: skip
    size = tuple(max(1, n) + m for n, m in zip(least, more, strict=True))
    check(window, size, batch, group, seed, unstructured, last)


LAYERS = [
    Window(3, 16, (3, 3), padding=(1,) * 4),
    Window(16, 16, (3, 3), (2, 2), (1,) * 4),
    Window(4, 12, (8, 8), (4, 4)),
    Window(16, 24, (1, 1)),
    Window(8, 8, (5, 5), padding=(2,) * 4, groups=2),
]


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, 2, 4, 8])
@pytest.mark.parametrize("window", LAYERS, ids=str)
def test_layers_of_networks(window, group):
    if window.groups > 1 and group == 8:
        assert "do not divide" in why_not(group, window, 9, 9)
        return
    for side in (9, 14, 16, 20):
        check(window, (side, side + side % 2), 24, group)


THREADED = """
import numpy as np
from tests.sparse_core.kernels.test_conv import LAYERS, check
for group in (1, 4):
    one, two = (check(LAYERS[1], (9, 9), 70, group, threads=threads) for threads in (1, 2))
    for a, b in zip(one, two):
        assert np.array_equal(a, b)
"""


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_threads():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, "-c", THREADED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_frame_by_hand():
    """Two channels of 2 x 3 pixels with a border of one: rows of five, as pitch is odd."""
    frame = Frame.around(2, 3, (1, 1), (1, 1), (2, 3), (2, 3))
    assert (frame.pitch, frame.rows, frame.lead, frame.slack) == (5, 3, 6, 6)
    assert frame.size(2, 1) == 6 + 2 * 15 + 6
    assert frame.channels(2, 1).tolist() == [6, 21]
    assert frame.pixels(1).tolist() == [0, 1, 2, 5, 6, 7]
    assert frame.numbers(2, 8).tolist() == [48, 40, 120, 2, 3, 2]


@pytest.mark.parametrize(
    ("size", "most", "patch"),
    [((8, 8), 9, (2, 4)), ((8, 8), 16, (2, 8)), ((7, 7), 9, (1, 7)), ((9, 9), 9, (3, 3)),
     ((8, 8), 5, (1, 4)), ((10, 10), 5, (1, 5)), ((1, 1), 9, (1, 1)), ((8, 8), 0, (1, 1))],
)  # fmt: skip
def test_patches_that_cover_images_at_least_cost(size, most, patch):
    assert patch_for(*size, most) == Patch(*patch)


def test_what_an_output_measures():
    window = Window(3, 8, (3, 5), (2, 1), (1, 0, 2, 2), (1, 2))
    assert window.output(10, 10) == ((10 + 1 - 2 - 1) // 2 + 1, 10 + 4 - 8)
    assert Layout(window, 10, 10, 1).out == (5, 6)


@pytest.mark.parametrize(
    ("group", "window", "size", "said"),
    [
        (16, Window(4, 16, (3, 3)), (8, 8), "groups have 16 filters, kernels are for"),
        (4, Window(4, 12, (3, 3), groups=2), (8, 8), "groups of 4 filters do not divide 6"),
        (1, Window(4, 8, (3, 3)), (2, 8), "images of 2 x 8 are smaller than the kernel"),
        (1, Window(512, 8, (1, 1)), (600, 600), "images of 600 x 600 are too large"),
    ],
)
def test_what_has_no_kernel_is_told(group, window, size, said):
    assert said in why_not(group, window, *size)
    pattern = Pattern.from_mask(np.ones((window.filters, window.fan_in), bool), group)
    with pytest.raises(ValueError, match=said):
        Convolution(pattern, window, *size)
