"""Which pooling modules of torch a chain of convolutions takes, and what they are on images."""

from __future__ import annotations

from typing import Any

from torch import nn

from sparse_core.kernels.conv_pools import Pooling
from sparse_core.kernels.conv_shape import Pair

_KINDS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)


def is_pooling(module: nn.Module) -> bool:
    """Whether a module pools as kernels do, at least images of some sizes.

    Not so are windows with gaps, windows that begin inside the image and end outside
    (`ceil_mode`), means with padding or another divisor, and modules that return indices.
    """
    if type(module) not in _KINDS or getattr(module, "return_indices", False):
        return False
    if isinstance(module, (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)):
        return True
    plain = not module.ceil_mode
    if isinstance(module, nn.MaxPool2d):
        return plain and _pair(module.dilation) == (1, 1)
    assert isinstance(module, nn.AvgPool2d)
    return plain and _pair(module.padding) == (0, 0) and not module.divisor_override


def pooling_of(module: nn.Module, size: Pair) -> Pooling | None:
    """Return what a pooling module does to images of a size; None: nothing that kernels do.

    Args:
        module: One that `is_pooling`.
        size: Height and width of the images.
    """
    largest = isinstance(module, (nn.MaxPool2d, nn.AdaptiveMaxPool2d))
    if isinstance(module, (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)):
        wanted = _pair(module.output_size)
        out = tuple(s if n is None else n for s, n in zip(size, wanted, strict=True))
        if any(n < 1 or s % n for s, n in zip(size, out, strict=True)):
            return None
        kernel = size[0] // out[0], size[1] // out[1]
        return Pooling(largest, kernel, kernel)
    assert isinstance(module, (nn.MaxPool2d, nn.AvgPool2d))
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    found = Pooling(largest, kernel, stride, _pair(module.padding))
    fits = all(2 * p <= k for p, k in zip(found.padding, kernel, strict=True))
    return found if fits and min(found.output(*size)) > 0 else None


def _pair(number: Any) -> Any:
    return tuple(number) if isinstance(number, (tuple, list)) else (number, number)
