"""Sizes of the kernels' blocks: a few candidates each, of which a device's fastest is remembered.

Nothing is tried while a network trains: other sizes round sums otherwise, so a run would depend on
what else the GPU was doing. `dst bench gpu` tries the candidates and writes its choice, by the
device's name, to a file that later runs read; without an entry the first candidate is taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch

Sizes = dict[str, int]

CANDIDATES: dict[str, tuple[Sizes, ...]] = {
    "products": (
        {"SAMPLES": 32, "GROUPS_AT_ONCE": 4, "PARTS": 4, "UNROLL": 4, "num_warps": 4},
        {"SAMPLES": 32, "GROUPS_AT_ONCE": 8, "PARTS": 1, "UNROLL": 4, "num_warps": 4},
        {"SAMPLES": 16, "GROUPS_AT_ONCE": 16, "PARTS": 4, "UNROLL": 2, "num_warps": 8},
        {"SAMPLES": 64, "GROUPS_AT_ONCE": 2, "PARTS": 4, "UNROLL": 4, "num_warps": 4},
        {"SAMPLES": 128, "GROUPS_AT_ONCE": 1, "PARTS": 1, "UNROLL": 8, "num_warps": 4},
    ),
    "tile_products": (
        {"SAMPLES": 64, "SLOTS": 32, "num_warps": 4},
        {"SAMPLES": 128, "SLOTS": 32, "num_warps": 4},
        {"SAMPLES": 64, "SLOTS": 64, "num_warps": 4},
        {"SAMPLES": 32, "SLOTS": 64, "num_warps": 2},
    ),
    "input_gradients": (
        {"SAMPLES": 32, "COLUMNS": 8, "num_warps": 4},
        {"SAMPLES": 32, "COLUMNS": 16, "num_warps": 8},
        {"SAMPLES": 64, "COLUMNS": 4, "num_warps": 4},
        {"SAMPLES": 128, "COLUMNS": 1, "num_warps": 4},
    ),
    "value_gradients": (
        {"SAMPLES": 64, "SLOTS": 16, "num_warps": 4},
        {"SAMPLES": 32, "SLOTS": 32, "num_warps": 4},
        {"SAMPLES": 128, "SLOTS": 8, "num_warps": 4},
    ),
    "tile_gradients": (
        {"SAMPLES": 64, "SLOTS": 32, "num_warps": 4},
        {"SAMPLES": 32, "SLOTS": 64, "num_warps": 4},
        {"SAMPLES": 128, "SLOTS": 16, "num_warps": 4},
    ),
}
"""What is tried for each kernel; the first is taken where nothing was."""

_CROSSOVERS = "crossovers"

WIDEST_REGISTERS = 8
"""Rows of a group from which blocks of `products` and `value_gradients` shrink by as much."""


def cache_file() -> Path:
    """Return where choices are kept: `DST_GPU_TUNING`, or the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("DST_GPU_TUNING", home / "dstrl" / "gpu.json"))


@cache
def _choices(device_name: str) -> Mapping[str, Any]:
    try:
        known = json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}
    found: Mapping[str, Any] = known.get(device_name, {})
    return found


def key_of(kernel: str, group: int, dtype: torch.dtype, batch: int) -> str:
    """Return what a choice is kept under; batches count by powers of two."""
    return f"{kernel}/{group}/{str(dtype).removeprefix('torch.')}/{_power(batch)}"


def sizes_for(kernel: str, group: int, dtype: torch.dtype, batch: int, device_name: str) -> Sizes:
    """Return the sizes of a kernel's blocks: those chosen on the device, else the first candidate.

    Args:
        kernel: One of `CANDIDATES`.
        group: Rows that share their columns.
        dtype: Of the values.
        batch: Samples.
        device_name: As torch calls it.
    """
    chosen = _choices(device_name).get(key_of(kernel, group, dtype, batch))
    sizes = dict(CANDIDATES[kernel][0] if chosen is None else chosen)
    least = 16 if kernel.startswith("tile") else 1
    sizes["SAMPLES"] = max(least, min(sizes["SAMPLES"], _power(batch)))
    for name in ("GROUPS_AT_ONCE", "SLOTS"):
        if name in sizes and least == 1:
            sizes[name] = max(1, sizes[name] // min(group, WIDEST_REGISTERS))
    return sizes


def tune(
    kernel: str,
    group: int,
    dtype: torch.dtype,
    batch: int,
    device_name: str,
    milliseconds: Callable[[], float],
    rounds: int = 5,
) -> Sizes:
    """Try all candidates of a kernel in turns, remember the fastest, and return it.

    Args:
        kernel: One of `CANDIDATES`.
        group: Rows that share their columns.
        dtype: Of the values.
        batch: Samples.
        device_name: As torch calls it.
        milliseconds: Runs the kernel with the sizes of `sizes_for`, and says how long it took.
        rounds: How often each is tried; the median counts.
    """
    file, key = cache_file(), key_of(kernel, group, dtype, batch)
    took: list[list[float]] = [[] for _ in CANDIDATES[kernel]]
    for _ in range(rounds + 1):  # the first compiles
        for times, candidate in zip(took, CANDIDATES[kernel], strict=True):
            _write(file, device_name, key, candidate)
            times.append(milliseconds())
    best = min(zip(took, CANDIDATES[kernel], strict=True), key=lambda pair: median(pair[0][1:]))[1]
    _write(file, device_name, key, best)
    return best


def crossovers(device_name: str) -> dict[str, Any]:
    """Return what `remember_crossovers` was given, by dtype; empty where nothing was measured."""
    found: dict[str, Any] = _choices(device_name).get(_CROSSOVERS, {})
    return found


def remember_crossovers(device_name: str, dtype: torch.dtype, measured: list[Any]) -> None:
    """Keep how fast condensed layers are on a device, for `sparse_core.layers.device_choice`."""
    known = crossovers(device_name) | {str(dtype): measured}
    _write(cache_file(), device_name, _CROSSOVERS, known)


def _write(file: Path, device_name: str, key: str, entry: Any) -> None:
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        known = {}
    known.setdefault(device_name, {})[key] = entry
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(known, indent=1, sort_keys=True))
    temporary.replace(file)
    _choices.cache_clear()


def _power(number: int) -> int:
    """Return the least power of two that is not below a positive number."""
    return 1 << max(0, number - 1).bit_length()
