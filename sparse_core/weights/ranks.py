"""Ranks that train one network together: `DistributedDataParallel` over more than one process.

    module = DistributedDataParallel(net)      # net was made sparse before, on each rank alike

DDP averages the gradients of parameters only. Growth looks at more, and each rank knows it for its
own part of the batch: dense gradients are averaged here, inputs of layers and gradients of their
outputs are gathered. So growth sees the whole batch. All ranks apply the update of the first one,
so they have one topology even where they round differently.

An engine finds out by itself, at its first optimizer step, whether its network is part of a wrapped
module with several ranks. All ranks must begin alike then, and make their optimizer steps together
(so no uneven inputs under `DistributedDataParallel.join`). A training loop that averages `.grad`
itself calls `Engine.unite`.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.parallel import DistributedDataParallel

from sparse_core.checks import InputError
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor

_wrappers: WeakValueDictionary[int, DistributedDataParallel] = WeakValueDictionary()
"""All wrappers that exist, in the order in which they were made."""

_number = itertools.count()

BLOCK_WEIGHTS = 1 << 22
"""Weights of a block of rows whose mask is hashed at once."""


class Ranks:
    """The processes of a group, two or more; they must all call the same method at the same time.

    Args:
        group: The process group; None: all processes.
    """

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.size = dist.get_world_size(group)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the ranks, the same to the bit on each of them."""
        total = value.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self.group)
        return total / self.size

    def anywhere(self, flags: Sequence[bool], device: torch.device) -> list[bool]:
        """Return which flags are set on one rank or more."""
        votes = torch.tensor(flags, dtype=torch.int64, device=device)
        dist.all_reduce(votes, group=self.group)
        return [count > 0 for count in votes.tolist()]

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows `(n, features)` of all ranks; each may have another n."""
        own = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.zeros_like(own) for _ in range(self.size)]
        dist.all_gather(counts, own, group=self.group)
        lengths = [int(count) for count in counts]
        padded = rows.new_zeros(max(lengths), rows.shape[1])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.group)
        return torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)])

    def of_first(self, deltas: Sequence[Delta]) -> list[Delta]:
        """Return the Deltas of the first rank."""
        parts = [part for delta in deltas for part in _parts(delta)]
        device = parts[0].device
        lengths = self._broadcast(torch.tensor([len(part) for part in parts], device=device))
        indices = torch.cat(parts)
        if len(indices) != int(lengths.sum()):
            indices = indices.new_empty(int(lengths.sum()))
        if len(indices):
            indices = self._broadcast(indices)
        split = torch.split(indices, lengths.tolist())
        return [Delta(*split[i : i + 4]) for i in range(0, len(split), 4)]

    def check_alike(self, what: str, tensors: Iterable[SparseTensor]) -> None:
        """Check that all ranks have the same topology, and the same text `what`.

        Raises:
            ValueError: On every rank, if they do not.
        """
        seen, device = hashlib.blake2b(what.encode(), digest_size=7), torch.device("cpu")
        for tensor in tensors:
            device = tensor.weight.device
            step = 8 * max(1, BLOCK_WEIGHTS // (8 * tensor.cols))
            for first in range(0, tensor.rows, step):
                rows = slice(first, min(first + step, tensor.rows))
                seen.update(tensor.active(rows).cpu().numpy().tobytes())
        own = torch.tensor(int.from_bytes(seen.digest(), "little"), device=device)
        if any(self.anywhere([bool(own != self._broadcast(own.clone()))], device)):
            raise InputError(
                f"the {self.size} ranks of a sparse network begin differently: give each the "
                "same SparseConfig (seed included) and horizon, and load a saved state on every "
                "rank, before it is wrapped; nothing was changed"
            )

    def _broadcast(self, value: Tensor) -> Tensor:
        value = value.contiguous()
        first = 0 if self.group is None else dist.get_global_rank(self.group, 0)
        dist.broadcast(value, first, group=self.group)
        return value


class RankFinder:
    """Finds the ranks that train a module together, anew at each step.

    Args:
        root: The module.

    Attributes:
        ranks: The ranks that the last call of `find` found; None: this process is alone.
    """

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._united: Ranks | None = None
        self.ranks: Ranks | None = None

    def unite(self, group: Any = None) -> None:
        """Name a process group, instead of looking for a wrapper; None: all processes."""
        self._united = Ranks(group)

    def find(self, common: Callable[[], str], tensors: Iterable[SparseTensor]) -> Ranks | None:
        """Return the ranks of now; when they have changed, check that they begin alike.

        Args:
            common: Returns a text that must be the same on all ranks.
            tensors: The weights whose topology must be the same.

        Raises:
            ValueError: If the ranks begin differently.
        """
        before, now = self.ranks, self._united or _wrapped(self._root)
        if now is not None and (before is None or before.group is not now.group):
            now.check_alike(common(), tensors)
        self.ranks = now
        return now

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_united": None, "ranks": None}


def is_wrapped(root: nn.Module) -> bool:
    """Whether a module is part of a wrapper, or one is part of it."""
    own = set(root.modules())
    return any(root in wrapper.modules() or wrapper in own for wrapper in _wrappers.values())


def _wrapped(root: nn.Module) -> Ranks | None:
    """Return the ranks of the latest wrapper around a module; None: there are not several."""
    if not _wrappers or not dist.is_initialized():
        return None
    for _, wrapper in sorted(_wrappers.items(), reverse=True):
        group = wrapper.process_group
        if dist.get_world_size(group) > 1 and any(child is root for child in wrapper.modules()):
            return Ranks(group)
    return None


def _parts(delta: Delta) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return delta.dropped, delta.grown, delta.ablated, delta.revived


def _see_registration(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    """Take note of a wrapper when it gets its module."""
    if isinstance(parent, DistributedDataParallel):
        _wrappers[next(_number)] = parent


if dist.is_available():
    register_module_module_registration_hook(_see_registration)
    if dist.is_initialized():
        for _object in gc.get_objects():
            if issubclass(type(_object), DistributedDataParallel):
                _wrappers[next(_number)] = _object
