"""A state of one form of a layer, read as that of another.

    dense       weight
    masked      weight, weight_mask, weight_seen
    condensed   values, columns, lengths, weight_seen      `sparse_core.layers.state`

A dense state has no topology: a layer that loads it keeps its own, and takes the weights that it
has places for. `weight_seen`, where weights have ever been active, is a matrix in masked layers and
bits in condensed ones.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.kernels.format import GROUPS, Pattern
from sparse_core.layers.companions import COMPANIONS, MEMORIES, key

State = dict[str, Any]

MATRICES = tuple(name for name in MEMORIES if name != "seen")
"""Companions that are numbers of all weights in both forms, as matrices in condensed layers."""


def to_condensed(
    state: State, prefix: str, own: Pattern, values: Tensor, shape: tuple[int, ...]
) -> None:
    """Replace a dense or masked layer's entries by those of a condensed one, in place.

    Args:
        state: Holds the layer's entries; left alone if they are condensed.
        prefix: What their names begin with.
        own: The condensed layer's topology.
        values: Its values.
        shape: Of its dense weight.

    Raises:
        ValueError: If the weight has another shape, or the topology does not fit. Nothing is
            changed then.
    """
    weight, mask = state.get(f"{prefix}weight"), state.get(key(f"{prefix}weight", "mask"))
    if not isinstance(weight, Tensor) or f"{prefix}values" in state:
        return
    if tuple(weight.shape) != shape:
        raise ValueError(f"size mismatch for weight: {tuple(weight.shape)} there, {shape} here")
    weight = weight.flatten(1)
    pattern, room = own, values.numel()
    if isinstance(mask, Tensor):
        pattern = Pattern.from_mask((mask != 0).flatten(1).cpu().numpy(), own.group)
        if pattern.size > room:
            raise ValueError(f"needs {pattern.size} values, there is room for {room}")
        slots = -(-room // own.group)
        columns = np.zeros(slots, np.int32)
        columns[: pattern.slots] = pattern.columns
        state[f"{prefix}columns"] = torch.from_numpy(columns)
        state[f"{prefix}lengths"] = torch.from_numpy(pattern.lengths)
        del state[key(f"{prefix}weight", "mask")]
    dense = _exact(weight.to(values.dtype))
    state[f"{prefix}values"] = torch.from_numpy(pattern.condense(dense, room)).to(values.dtype)
    del state[f"{prefix}weight"]
    for name in MATRICES:
        mean = state.get(key(f"{prefix}weight", name))
        if isinstance(mean, Tensor):
            state[key(f"{prefix}weight", name)] = mean.flatten(1)
    seen = state.get(key(f"{prefix}weight", "seen"))
    if isinstance(seen, Tensor) and seen.dim() > 1:
        bits = np.packbits((seen != 0).cpu().numpy())
        state[key(f"{prefix}weight", "seen")] = torch.from_numpy(bits)


def to_masked(state: State, prefix: str, shape: tuple[int, ...]) -> None:
    """Replace a condensed layer's entries by those of a masked one, in place.

    Args:
        state: Holds the layer's entries; left alone if they are not condensed.
        prefix: What their names begin with.
        shape: Of the masked layer's weight.

    Raises:
        ValueError: If they are not the state of a layer of that shape. Nothing is changed then.
    """
    own = [f"{prefix}{name}" for name in ("values", "columns", "lengths")]
    parts = [state.get(name) for name in own]
    if f"{prefix}weight" in state or not all(isinstance(part, Tensor) for part in parts):
        return
    values, columns, lengths = (part.detach().cpu() for part in parts if part is not None)
    if len(shape) < 2:
        raise ValueError(f"is condensed there, here its weight is {shape}")
    rows, cols = shape[0], prod(shape[1:])
    group = _group(rows, values.numel(), columns.numel(), lengths.numel())
    pattern = Pattern.from_lengths(integers(columns), integers(lengths), cols, rows, group)
    dense = torch.from_numpy(pattern.expand(_exact(values))).reshape(shape)
    state[f"{prefix}weight"] = dense.to(values.dtype)
    state[key(f"{prefix}weight", "mask")] = torch.from_numpy(pattern.to_mask()).reshape(shape)
    for name in own:
        del state[name]
    for name in MATRICES:
        mean = state.get(key(f"{prefix}weight", name))
        if isinstance(mean, Tensor):
            state[key(f"{prefix}weight", name)] = mean.reshape(shape)
    seen = state.get(key(f"{prefix}weight", "seen"))
    if isinstance(seen, Tensor) and seen.dim() == 1:
        flags = np.unpackbits(seen.byte().cpu().numpy())[: rows * cols].astype(np.bool_)
        state[key(f"{prefix}weight", "seen")] = torch.from_numpy(flags).reshape(shape)


def dotted(state: State, prefix: str, name: str) -> None:
    """Rename entries of a parameter, such as `in_proj_weight`, to those of a module, in place.

    Args:
        state: Holds the entries of an attention module; left alone if they are the module's.
        prefix: What their names begin with.
        name: The module's, such as `in_proj`.
    """
    _rename(state, f"{prefix}{name}_weight", f"{prefix}{name}.weight")
    if name == "in_proj":
        _rename(state, f"{prefix}in_proj_bias", f"{prefix}in_proj.bias")


def undotted(state: State, prefix: str, name: str, shape: tuple[int, ...]) -> None:
    """Replace a condensed projection's entries by those of a masked parameter, in place.

    Args:
        state: Holds the entries of an attention module; left alone if they are a parameter's.
        prefix: What their names begin with.
        name: The module's, such as `in_proj`.
        shape: Of the parameter.

    Raises:
        ValueError: If they are not those of a matrix of that shape. Nothing is changed then.
    """
    to_masked(state, f"{prefix}{name}.", shape)
    _rename(state, f"{prefix}{name}.weight", f"{prefix}{name}_weight")
    if name == "in_proj":
        _rename(state, f"{prefix}in_proj.bias", f"{prefix}in_proj_bias")


def _rename(state: State, before: str, after: str) -> None:
    for name in [name for name in state if name.startswith(before)]:
        state[after + name.removeprefix(before)] = state.pop(name)


def to_dense(state: State, name: str) -> None:
    """Replace a masked parameter and its companions in a state by the dense weight, in place."""
    mask = state.get(key(name, "mask"))
    if isinstance(mask, Tensor) and name in state:
        state[name] = state[name] * mask
    for companion in COMPANIONS:
        state.pop(key(name, companion), None)


def _group(rows: int, capacity: int, slots: int, lanes: int) -> int:
    for group in GROUPS:
        if -(-rows // group) == lanes and -(-capacity // group) == slots:
            return group
    raise ValueError(f"has {lanes} groups of {slots} slots there, here {rows} rows")


def _exact(tensor: Tensor) -> NDArray[Any]:
    """Return numbers as an array; NumPy has no bfloat16, which float32 holds exactly."""
    on_cpu = tensor.detach().cpu()
    array: NDArray[Any] = (on_cpu.float() if on_cpu.dtype == torch.bfloat16 else on_cpu).numpy()
    return array


def integers(tensor: Tensor) -> NDArray[Any]:
    """Read indices; floats are rounded down."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return np.floor(array).astype(np.int64) if tensor.is_floating_point() else array
