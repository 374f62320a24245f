"""Compile kernels of layers ahead of their first use."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sparse_core import kernels
from sparse_core.checks import at_least
from sparse_core.kernels.conv import convolution
from sparse_core.kernels.conv_chain import Passage
from sparse_core.kernels.conv_pools import Pool, Pooling, Through
from sparse_core.kernels.conv_shape import Window
from sparse_core.kernels.conv_sides import Images, Operation
from sparse_core.kernels.conv_stages import Norm, Stage, Wanted
from sparse_core.kernels.format import Pattern

Convolved = tuple[int, int, int]
"""Kernel size, stride, and height and width of the images, padded by half the kernel."""

_CHANNELS = 8


def warmup(
    groups: Iterable[int] = (1,),
    batches: Iterable[int] = (1, 256),
    threads: int = 1,
    convolutions: Iterable[Convolved] = (),
) -> float:
    """Compile, or load from the cache, the kernels of condensed layers.

    A program calls this once before it starts its runs, which then find the kernels in the cache
    that they share.

        warmup(batches=(128,), convolutions=[(3, 1, 32), (3, 2, 32), (3, 1, 16)])

    Args:
        groups: Numbers of rows that share their columns, of 1 to 32.
        batches: Batch sizes; those with the same tile share their kernels.
        threads: Threads that layers will be run with.
        convolutions: Those that networks have; channels do not matter. What chains have between
            them is compiled, too.

    Returns:
        Seconds that it took.

    Raises:
        ValueError: If a group, a batch or a convolution is not possible.
    """
    start = time.perf_counter()
    groups = list(groups)
    kernels.warmup(groups, batches, threads)
    convolutions = list(convolutions)
    for kernel, stride, size in convolutions:
        for name, value in (("kernel", kernel), ("stride", stride), ("size", size)):
            at_least(name, value, 1)
        for group in groups:
            _convolve(kernel, stride, size, group, threads)
    if convolutions:
        _between(threads)
    return time.perf_counter() - start


def _convolve(kernel: int, stride: int, size: int, group: int, threads: int) -> None:
    """Run a convolution of a few channels both ways, channels first and last."""
    half = kernel // 2
    window = Window(
        _CHANNELS, _CHANNELS, (kernel, kernel), (stride, stride), (half, half, half, half)
    )
    pattern = Pattern.from_mask(np.ones((_CHANNELS, window.fan_in), np.bool_), group)
    values: NDArray[np.float32] = np.zeros(pattern.size, np.float32)
    bias: NDArray[np.float32] = np.zeros(_CHANNELS, np.float32)
    made = convolution(pattern, window, size, size)
    count = made.layout.tile * threads
    x: NDArray[np.float32] = np.zeros((count, _CHANNELS * size * size), np.float32)
    for last in (False, True):
        images = Images(x, last)
        y = made.forward(values, images, bias, threads)
        made.backward(values, images, y, threads=threads)


def _between(threads: int) -> None:
    """Run what chains have between convolutions, both ways."""
    size, numbers = 4, _CHANNELS * 4 * 4
    nothing, ones = np.empty(0, np.float32), np.ones(_CHANNELS, np.float32)
    norm, through = Norm(ones, ones, 1.0, None), Through(_CHANNELS, size, size)

    def stage(operation: Operation, relu: bool = False, added: int | None = None) -> Stage:
        return Stage(operation, nothing, None, norm, relu, added)

    stages = [
        stage(through, relu, i if added else None)
        for i, (relu, added) in enumerate([(True, False), (True, True), (False, True)])
    ]
    for largest in (True, False):
        stages.append(stage(Pool(Pooling(largest, (2, 2), (1, 1)), _CHANNELS, size, size)))
        size -= 1
    passage = Passage(stages, through.tile * threads, threads)
    for last in (False, True):
        x: NDArray[np.float32] = np.zeros((passage.batch, numbers), np.float32)
        y = passage.forward(Images(x, last))
        passage.backward(y, [Wanted(False, False, True)] * len(stages), of_x=True)
