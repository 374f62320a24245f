"""Convolutions for tests, with few kinds of patches, so that few kernels are compiled."""

import pytest

from sparse_core.kernels import conv_shape
from sparse_core.kernels.conv_shape import Patch


@pytest.fixture
def few_patches(monkeypatch):
    """Compute in patches of 2 x 2 pixels wherever registers hold as many, else of one."""
    monkeypatch.setattr(conv_shape, "_START", 1e9)
    monkeypatch.setattr(conv_shape, "_PATCHES", (Patch(2, 2), Patch(1, 1)))
