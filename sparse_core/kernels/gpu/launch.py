"""Products and gradients of a condensed layer, for tensors on a GPU.

Activations are `(features, batch)`; strides are free. Tensors are those of a layer that was checked
(`sparse_core.layers.on_device`): sizes are trusted here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse_core.kernels.gpu import backward, forward, lookups, turning
from sparse_core.kernels.gpu.activations import CODES
from sparse_core.kernels.gpu.index import DeviceIndex
from sparse_core.kernels.gpu.support import precision_of
from sparse_core.kernels.gpu.tuning import sizes_for

TENSOR_CORES_FROM = 16
"""Rows of a group from which tensor cores multiply, in any precision."""

LOOKUP_SLOTS = 64
SIDE = 32


def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **sizes: Any) -> None:
    """Run a kernel on the device of its first tensor, if there is anything to compute.

    A GPU takes 2^31 programs along the first axis of a grid and 65535 along the second.
    """
    if 0 in grid:
        return
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        kernel[grid](*arguments, **sizes)


def turned(rows: Tensor) -> Tensor:
    """Return a `(height, width)` matrix transposed, C-contiguous."""
    height, width = rows.shape
    out = rows.new_empty(width, height)
    grid = (_blocks(height, SIDE) * _blocks(width, SIDE),)
    start(turning.turn, grid, rows, out, height, width, *rows.stride(), SIDE=SIDE)
    return out


def forward_of(
    index: DeviceIndex,
    values: Tensor,
    x: Tensor,
    bias: Tensor | None,
    activation: str | None = None,
    *,
    out: Tensor | None = None,
    before: Tensor | None = None,
) -> Tensor:
    """Compute act(W x + b).

    Args:
        index: The active weights.
        values: (at least slots * group,) float32 or bfloat16.
        x: (in, batch) of the same dtype.
        bias: (out,) or None.
        activation: One of `sparse_core.kernels.gpu.activations.CODES`.
        out: (out, batch) to write to; None: a new one.
        before: Of the strides of `out`: gets W x + b; None: not kept.

    Returns:
        `out`.
    """
    batch = x.shape[1]
    out = x.new_empty(index.out_features, batch) if out is None else out
    name = "tile_products" if uses_tensor_cores(index.group, values) else "products"
    sizes = _sizes(name, index, values, batch)
    meta: dict[str, Any] = {
        "GROUP": index.group,
        "ACTIVATION": CODES[activation],
        "HAS_BIAS": bias is not None,
        "KEEP": before is not None,
    }
    arrays = values, index.columns, index.indptr, x, values if bias is None else bias, out
    kept = out if before is None else before
    strides = *x.stride(), *out.stride()
    tiles = _blocks(batch, sizes["SAMPLES"])
    if name == "products":
        lanes = _blocks(index.groups, sizes["GROUPS_AT_ONCE"] * sizes["PARTS"])
        start(
            forward.products, (lanes, tiles),
            *arrays, kept, batch, index.groups, index.out_features, *strides, **meta, **sizes,
        )  # fmt: skip
        return out
    meta |= {"MEMBERS": max(16, index.group), "PRECISION": precision_of(values)}
    start(
        forward.tile_products, (index.groups, tiles),
        *arrays, kept, batch, index.out_features, *strides, **meta, **sizes,
    )  # fmt: skip
    return out


def input_gradient_of(
    index: DeviceIndex, values: Tensor, dy: Tensor, *, out: Tensor | None = None
) -> Tensor:
    """Compute W^T dy: `(in, batch)` from `(out, batch)`, to `out` if it is given."""
    batch = dy.shape[1]
    out = dy.new_empty(index.in_features, batch) if out is None else out
    sizes, by_column = _sizes("input_gradients", index, values, batch), index.by_column
    start(
        backward.input_gradients,
        (_blocks(index.in_features, sizes["COLUMNS"]), _blocks(batch, sizes["SAMPLES"])),
        values, by_column.owners, by_column.sources, by_column.indptr, dy, out,
        batch, index.in_features, index.out_features, *dy.stride(), *out.stride(),
        GROUP=index.group, **sizes,
    )  # fmt: skip
    return out


def value_gradient_of(index: DeviceIndex, x: Tensor, dy: Tensor, capacity: int) -> Tensor:
    """Compute dy x^T at active weights: `(capacity,)`, zeros where unused.

    Args:
        index: The active weights.
        x: (in, batch).
        dy: (out, batch) of the same dtype.
        capacity: Length of the result, `slots * group` at least.
    """
    batch = x.shape[1]
    strides = *x.stride(), *dy.stride()
    if uses_tensor_cores(index.group, x):
        out = x.new_zeros(capacity)
        sizes = _sizes("tile_gradients", index, x, batch)
        start(
            backward.tile_gradients,
            (index.groups, _blocks(index.longest, sizes["SLOTS"])),
            index.columns, index.indptr, x, dy, out, batch, index.out_features, *strides,
            GROUP=index.group, MEMBERS=max(16, index.group), PRECISION=precision_of(x), **sizes,
        )  # fmt: skip
        return out
    out = x.new_empty(capacity)
    out[index.slots * index.group :] = 0
    sizes = _sizes("value_gradients", index, x, batch)
    start(
        backward.value_gradients,
        (_blocks(index.slots, sizes["SLOTS"]),),
        index.columns, index.owners, x, dy, out,
        batch, index.slots, index.out_features, capacity, *strides,
        GROUP=index.group, **sizes,
    )  # fmt: skip
    return out


def through(
    signal: Tensor, seen: Tensor | None, activation: str | None, *, sums: bool, write: bool = True
) -> Tensor | None:
    """Turn the gradient of an activation's output into that of its input, in place.

    Args:
        signal: (features, batch), the gradient.
        seen: The activation's output, or its input for those of `READS_INPUT`.
        activation: Which; None: none.
        sums: Whether to add up the samples of the result: the gradient of a bias.
        write: Whether to write the result.

    Returns:
        `(features,)` sums, if asked for.
    """
    features, batch = signal.shape
    total = signal.new_empty(features) if sums else signal
    other = signal if seen is None else seen
    block = 16
    start(
        backward.through_activation,
        (_blocks(features, block),),
        signal, other, total, batch, features, *signal.stride(), *other.stride(),
        FEATURES=block, SAMPLES=64, ACTIVATION=CODES[activation],
        WRITE=write and activation is not None, SUM=sums,
    )  # fmt: skip
    return total if sums else None


def look_up(index: DeviceIndex, values: Tensor, tokens: Tensor) -> Tensor:
    """Return the vectors of tokens, `(n, in)`, zero where inactive; `tokens` is (n,) int64."""
    out = values.new_zeros(tokens.numel(), index.in_features)
    start(
        lookups.look_up, (tokens.numel(),),
        tokens, values, index.columns, index.indptr, out, index.in_features, SLOTS=LOOKUP_SLOTS,
    )  # fmt: skip
    return out


def look_up_gradient(index: DeviceIndex, tokens: Tensor, dy: Tensor, capacity: int) -> Tensor:
    """Return the gradient of values, `(capacity,)`, from that of the vectors, `(n, in)`."""
    out = dy.new_zeros(capacity)
    ordered, order = torch.sort(tokens, stable=True)
    every = torch.arange(index.out_features + 1, dtype=tokens.dtype, device=tokens.device)
    bounds = torch.searchsorted(ordered, every, out_int32=True)
    start(
        lookups.look_up_gradients, (index.out_features,),
        order.to(torch.int32), bounds, index.columns, index.indptr, dy, out, index.in_features,
        SLOTS=LOOKUP_SLOTS,
    )  # fmt: skip
    return out


def uses_tensor_cores(group: int, values: Tensor) -> bool:
    """Whether tensor cores multiply: large groups, those of 8 where they lose no precision."""
    if group >= TENSOR_CORES_FROM:
        return True
    return group == TENSOR_CORES_FROM // 2 and (
        values.dtype == torch.bfloat16 or precision_of(values) == "tf32"
    )


def _sizes(kernel: str, index: DeviceIndex, values: Tensor, batch: int) -> dict[str, int]:
    name = torch.cuda.get_device_name(values.device) if values.is_cuda else str(values.device)
    return sizes_for(kernel, index.group, values.dtype, max(1, batch), name)


def _blocks(whole: int, size: int) -> int:
    return -(-whole // size)
