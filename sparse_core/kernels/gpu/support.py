"""Whether the kernels for GPUs can run, and what they can compute with."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

DEVICES = ("cuda",)
"""Types of devices that Triton compiles for here."""

DTYPES = (torch.float32, torch.bfloat16)
"""What values and activations may be; sums are float32 always."""

MOST_OFFSETS = 2**31
"""Elements of an array from which 32-bit offsets do not reach its end."""


@cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton interprets kernels, on tensors on the CPU, instead of compiling them."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_not(device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why a condensed layer cannot compute on a GPU, or None if it can.

    Args:
        device: Where its weights are.
        dtype: What they are.
    """
    if device.type not in DEVICES:
        return f"it is on {device}, condensed layers are for the CPU and for CUDA"
    if not has_triton():
        return "condensed layers on a GPU need Triton: pip install 'dstrl[gpu]'"
    if dtype not in DTYPES:
        return f"its dtype is {dtype}, kernels for GPUs are for float32 and bfloat16"
    return None


def check_offsets(**arrays: int) -> None:
    """Refuse arrays whose elements 32-bit offsets cannot count.

    Args:
        arrays: Numbers of elements by name.

    Raises:
        ValueError: If one has 2^31 or more; the message names it.
    """
    for name, elements in arrays.items():
        if elements >= MOST_OFFSETS:
            raise ValueError(
                f"{name} has {elements} elements, kernels for GPUs count fewer than 2^31: "
                'use smaller batches, or backend="masked"'
            )


def precision_of(values: Tensor) -> str:
    """Return how tensor cores multiply: `tf32` where torch may use it for float32, else `ieee`."""
    if values.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return "tf32"
    return "ieee"
