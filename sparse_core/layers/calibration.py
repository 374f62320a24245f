"""The costs of masked and condensed layers, measured once on the machine at hand.

Passes of a dozen small layers, near the sizes from which condensed ones are faster, are timed in
turns for a quarter of a second; `Costs` are the least squares of the relative errors of the fastest
ones. They are kept in the folder of compiled kernels, for each processor, version of the code, of
torch and Numba, number of threads, batch size and group: whatever process asks first decides for
all that follow, so that one machine always chooses alike. Where no folder can be written, nothing
is measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sparse_core.checks import one_of
from sparse_core.kernels import jit
from sparse_core.layers.chaining import chain
from sparse_core.layers.condensed import become_condensed
from sparse_core.layers.costs import Costs, shipped
from sparse_core.layers.linear import MaskedLinear
from sparse_core.layers.masked import become_masked

COSTS_VARIABLE = "SPARSE_CORE_COSTS"
"""Environment variable: `measured`, the default, or `shipped`, which are the same everywhere."""

SECONDS, LEAST_TURNS = 0.3, 3
"""How long layers are timed, and how often at least."""

BLOCK = 1e-3
"""Seconds of a block of calls of one layer."""

MOST_SAMPLES = 512
"""Samples of the largest batch that is timed; a larger one costs in proportion."""

DENSITY = 0.1
"""Of the condensed layers, bar those of `HALF_DENSE`."""

SQUARES = ((64, 64), (128, 128), (256, 256))
OBLONGS = ((17, 256), (256, 8), (64, 256))
HALF_DENSE = ((128, 128), (256, 256))
"""Inputs and outputs of single layers."""

CHAINS = (64, 256)
"""Widths of chains of three layers with ReLU between them."""

C = TypeVar("C")
K = TypeVar("K")

Widths = tuple[int, ...]
Kind = tuple[str, Widths, float]
"""`masked` or `condensed`; inputs, outputs of the first layer, and so on; density."""


def costs(batch: int, group: int) -> Costs:
    """Return the costs of this machine for training batches of a size, measured now if need be.

    Args:
        batch: Samples.
        group: Consecutive neurons that share their columns.

    Raises:
        InputError: If `SPARSE_CORE_COSTS` is neither `measured` nor `shipped`.
    """
    return _kept(batch, group, torch.get_num_threads()) if measures() else shipped(batch, group)


def measures() -> bool:
    """Whether costs of this machine are asked for.

    Raises:
        InputError: If `SPARSE_CORE_COSTS` is neither `measured` nor `shipped`.
    """
    wanted = os.environ.get(COSTS_VARIABLE) or "measured"
    one_of(COSTS_VARIABLE, wanted, ("measured", "shipped"))
    return wanted == "measured"


@cache
def _kept(batch: int, group: int, threads: int) -> Costs:
    return kept(
        f"{batch}-{group}-{threads}",
        Costs,
        lambda: measured(batch, group),
        lambda: shipped(batch, group),
    )


def kept(name: str, kind: type[C], measure: Callable[[], C], otherwise: Callable[[], C]) -> C:
    """Return costs that were kept before, else measure and keep them.

    Args:
        name: What they are the costs of.
        kind: The dataclass that they are.
        measure: Measures them.
        otherwise: What they are where no folder can be written.
    """
    for directory in jit.cache_dirs():
        found = _read(directory / place(name), kind)
        if found is not None:
            return found
    directory_to_write = jit.cache_dir()
    if directory_to_write is None:
        return otherwise()
    return _keep(directory_to_write / place(name), measure(), kind)


def place(name: str) -> Path:
    """Return where costs of a name lie in a folder of compiled kernels."""
    digest = hashlib.sha256(f"{jit.fingerprint()} {torch.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return Path("costs") / f"{digest.hexdigest()[:16]}-{name}.json"


def _read(path: Path, kind: type[C]) -> C | None:
    """Read costs; None if there are none, or others than ours."""
    try:
        return kind(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _keep(path: Path, found: C, kind: type[C]) -> C:
    """Write costs unless another process was faster, and return what is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(vars(found)))
        try:
            os.link(temporary, path)  # fails where somebody else's are
        except FileExistsError:
            if _read(path, kind) is None:
                os.replace(temporary, path)
        except OSError:
            os.replace(temporary, path)  # a file system without links
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    except OSError:
        return found
    return _read(path, kind) or found


def measured(batch: int, group: int) -> Costs:
    """Measure the costs of this machine, which takes less than a second once kernels are compiled.

    Args:
        batch: Samples.
        group: Consecutive neurons that share their columns.
    """
    samples = min(batch, MOST_SAMPLES)
    kinds: list[Kind] = [("masked", shape, 1.0) for shape in (*SQUARES, *OBLONGS)]
    kinds += [("condensed", shape, DENSITY) for shape in (*SQUARES, *OBLONGS)]
    kinds += [("condensed", shape, 0.5) for shape in HALF_DENSE]
    kinds += [(name, (width,) * 4, DENSITY) for name in ("masked", "condensed") for width in CHAINS]
    with torch.inference_mode(False), torch.enable_grad():
        calls = {kind: _pass(kind, samples, group) for kind in kinds}
        return fitted(fastest(calls), batch / samples)


def fitted(times: Mapping[Kind, float], more: float = 1.0) -> Costs:
    """Return the costs that explain times best.

    Args:
        times: Seconds of a forward and backward pass; those of `CHAINS` and of the same layers
            alone among them.
        more: How many times larger the batch is in fact: all costs but those of calls grow.
    """
    masked, condensed = (
        _least_squares({k: t for k, t in times.items() if k[0] == name and len(k[1]) == 2})
        for name in ("masked", "condensed")
    )
    joint_call, joint_feature = _joints(times)
    return Costs(
        masked[0],
        more * masked[1],
        more * masked[2],
        condensed[0],
        more * condensed[1],
        more * condensed[2],
        joint_call,
        more * joint_feature,
    )


def _least_squares(times: Mapping[Kind, float]) -> list[float]:
    """Return nanoseconds of a call, a weight and a feature, none negative."""
    table = np.array([_counts(widths, density) for _, widths, density in times])
    return least_squares(table, 1e9 * np.array(list(times.values())))


def least_squares(table: NDArray[np.float64], times: NDArray[np.float64]) -> list[float]:
    """Return the costs whose relative errors are least, none negative.

    Args:
        table: (cases, costs), how often each cost occurs in each case.
        times: (cases,), what each case costs.
    """
    relative, costs = table / times[:, None], table.shape[1]
    found, used = np.zeros(costs), np.ones(costs, bool)
    while used.any():
        found[:] = 0
        found[used] = np.linalg.lstsq(relative[:, used], np.ones(len(relative)), rcond=None)[0]
        if (found >= 0).all():
            break
        used &= found > 0
    return found.tolist()


def _counts(widths: Widths, density: float) -> tuple[float, float, float]:
    pairs = list(pairwise(widths))
    weights = sum(density * cols * rows for cols, rows in pairs)
    return float(len(pairs)), weights, float(sum(cols + rows for cols, rows in pairs))


def _joints(times: Mapping[Kind, float]) -> tuple[float, float]:
    """Return nanoseconds that a joint of a chain saves, and each feature of it, none negative.

    A masked chain pays for the ReLU between its layers; a condensed one has it in its joints.
    """
    saved = []
    for width in CHAINS:
        single, whole = (width, width), (width,) * 4
        relus = times["masked", whole, DENSITY] - 3 * times["masked", single, 1.0]
        alone = 3 * times["condensed", single, DENSITY]
        saved.append((alone + relus - times["condensed", whole, DENSITY]) / 2)
    small, large = CHAINS
    feature = max(0.0, (saved[1] - saved[0]) / (large - small))
    return 1e9 * max(0.0, saved[0] - feature * small), 1e9 * feature


def _pass(kind: Kind, samples: int, group: int) -> Callable[[], object]:
    """Return a forward and a backward pass, gradient of the input included."""
    name, widths, density = kind
    random = np.random.default_rng(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.uniform(-0.1, 0.1, shape).astype(np.float32))

    layers: list[nn.Module] = []
    for cols, rows in pairwise(widths):
        layer = nn.Linear(cols, rows, device="meta")  # which draws no random numbers
        layer.weight, layer.bias = nn.Parameter(numbers(rows, cols)), nn.Parameter(numbers(rows))
        if name == "masked":
            become_masked(layer, MaskedLinear)
        else:
            mask = random_mask(random, rows, cols, density, group)
            become_condensed(layer, torch.from_numpy(mask), group=group)
        layers += [layer, nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    chain(net)
    x, dy = numbers(samples, widths[0]).requires_grad_(), numbers(samples, widths[-1])

    def call() -> None:
        net.zero_grad()
        x.grad = None
        net(x).backward(dy)

    return call


def random_mask(
    random: np.random.Generator, rows: int, cols: int, density: float, group: int
) -> NDArray[np.bool_]:
    """Return a mask of constant fan-in, equal within groups of rows."""
    mask = np.zeros((-(-rows // group), cols), bool)
    for lane in mask:
        lane[random.choice(cols, max(1, round(density * cols)), replace=False)] = True
    return np.repeat(mask, group, axis=0)[:rows]


def fastest(calls: Mapping[K, Callable[[], object]]) -> dict[K, float]:
    """Return the seconds of a call of each in the fastest of some blocks, made in turns.

    One thread is timed by its own processor time, whatever else the machine does. The first call of
    a block does not count: it pays for the caches that others have filled.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(calls, BLOCK)
    begin, turns = time.perf_counter(), 0
    while turns < LEAST_TURNS or time.perf_counter() - begin < SECONDS:
        turns += 1
        for kind, call in calls.items():
            count = max(1, round(BLOCK / best[kind]))
            call()
            start = clock()
            for _ in range(count):
                call()
            spent = (clock() - start) / count
            best[kind] = spent if turns == 1 else min(best[kind], spent)
    return best
