"""Pooling on tiles against torch's."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparse_core.kernels.conv_pools import Pool, Pooling
from sparse_core.kernels.conv_sides import Images

NOTHING = np.empty(0, np.float32)


def pooled(pooling, x, dy, threads=1):
    """Return what comes of images, and the gradient of these."""
    batch, channels, *size = x.shape
    pool = Pool(pooling, channels, *size)
    tiles = -(-batch // pool.tile)
    of_x, of_dx, of_y = (side.empty(tiles) for side in (pool.x, pool.x, pool.y))
    y, dx = torch.empty_like(dy), torch.empty_like(x)
    pool.x.enter(Images(x.flatten(1).numpy()), 0, of_x, 1)
    of_y.fill(np.nan)
    pool.outputs(NOTHING, of_x, NOTHING, of_y, threads)
    assert np.isfinite(of_y).all() or not x.isfinite().all()
    pool.y.leave(of_y, Images(y.view(batch, -1).numpy()), 0, 1)
    pool.y.enter(Images(dy.flatten(1).numpy()), 0, of_y, 1)
    of_dx.fill(np.nan)
    pool.inputs(NOTHING, of_x if pool.reads else None, of_y, of_dx, threads)
    pool.x.leave(of_dx, Images(dx.view(batch, -1).numpy()), 0, 1)
    return y, dx


@pytest.mark.parametrize(
    ("pooling", "size"),
    [(Pooling(True, (2, 2), (2, 2)), (5, 6)), (Pooling(True, (3, 3), (2, 2), (1, 1)), (6, 5)),
     (Pooling(True, (3, 2), (1, 2), (0, 1)), (4, 5)), (Pooling(False, (2, 3), (2, 3)), (5, 7)),
     (Pooling(False, (4, 4), (4, 4)), (4, 4)), (Pooling(False, (3, 3), (1, 2)), (5, 5))],
)  # fmt: skip
def test_it_is_that_of_torch(pooling, size):
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (19, 3, *size)).float()  # the same number more than once in a window
    dy = torch.randint(-9, 9, (19, 3, *pooling.output(*size))).float()
    leaf = x.clone().requires_grad_()
    if pooling.largest:
        expected = F.max_pool2d(leaf, pooling.kernel, pooling.stride, pooling.padding)
    else:
        expected = F.avg_pool2d(leaf, pooling.kernel, pooling.stride)
    expected.backward(dy)
    torch.testing.assert_close(pooled(pooling, x, dy), (expected.detach(), leaf.grad))


THREADED = """
import torch
from sparse_core.kernels.conv_pools import Pooling
from tests.sparse_core.kernels.test_conv_pools import pooled
x, dy = torch.randn(70, 3, 6, 6), torch.randn(70, 3, 3, 3)
for largest in (False, True):
    pooling = Pooling(largest, (2, 2), (2, 2))
    for one, other in zip(pooled(pooling, x, dy), pooled(pooling, x, dy, 2), strict=True):
        assert torch.equal(one, other)
"""


@pytest.mark.slow
def test_threads_change_nothing():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, "-c", THREADED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_no_number_stays_so():
    x = torch.tensor([[[[1.0, torch.nan], [3.0, 2.0]]]])
    y, _ = pooled(Pooling(True, (2, 2), (2, 2)), x, torch.ones(1, 1, 1, 1))
    assert y.isnan().all()
