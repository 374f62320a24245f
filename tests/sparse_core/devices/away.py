"""A device that is not the CPU, made of CPU tensors: `torch.device("away")`.

Its tensors refuse what those on a GPU refuse: to be mixed with tensors on the CPU, but for single
numbers and copies, and to be read by NumPy. So code that forgets where a weight lies fails on it as
it would on a GPU, through autograd and optimizers, on any machine. `enable` makes the device for
the whole process, for good: call it in a process of its own, before any backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

aten = torch.ops.aten
DEVICE = "away"
COPIES = (aten.copy_.default, aten._to_copy.default)
"""Operations that may have tensors on two devices."""

_libraries: list[torch.library.Library] = []


class Away(Tensor):
    """A tensor on the device; `near` is what it holds."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> Away:
        made: Away = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=f"{DEVICE}:0",
        )
        made.near = near
        return made

    def __repr__(self) -> str:
        return f"Away({self.near})"

    def tolist(self) -> Any:
        """Return its numbers, as tensors on any device do."""
        return self.near.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


def possible() -> bool:
    """Whether this version of torch lets a device be written in Python."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


def enable() -> None:
    """Make the device."""
    backend_registration._setup_privateuseone_for_python_backend(DEVICE)
    every = torch.library.Library("_", "IMPL")
    every.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    some = torch.library.Library("aten", "IMPL")
    for name in ("copy_", "_to_copy", "empty.memory_format", "empty_strided"):
        some.impl(name, _implemented(name), "PrivateUse1")
    _libraries.extend((every, some))


def type_of(item: object) -> type:
    """Return an object's type; for parameters on the device the type of those on a GPU."""
    return nn.Parameter if isinstance(item, Away) and isinstance(item, nn.Parameter) else type(item)


def _implemented(name: str) -> Any:
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(aten, packet), overload or "default")
    return lambda *args, **kwargs: _run(operation, args, kwargs)


def _run(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    flat, spec = pytree.tree_flatten((args, kwargs))
    _refuse_mixture(operation, flat)
    near_args, near_kwargs = pytree.tree_unflatten([_near(item) for item in flat], spec)
    out = operation(*near_args, **near_kwargs)
    if operation is aten._to_copy.default:
        device = kwargs.get("device")
        return out if device is not None and device.type == "cpu" else Away(out)
    if operation is aten.copy_.default and not isinstance(args[0], Away):
        return args[0]
    known = {id(item.near): item for item in flat if isinstance(item, Away)}
    return pytree.tree_map_only(
        Tensor, lambda near: known[id(near)] if id(near) in known else Away(near), out
    )


def _refuse_mixture(operation: Any, flat: Sequence[Any]) -> None:
    if operation in COPIES:
        return
    for item in flat:
        if isinstance(item, Tensor) and not isinstance(item, Away) and item.dim() > 0:
            raise RuntimeError(f"{operation}: {tuple(item.shape)} on {item.device}, not {DEVICE}")


def _near(item: Any) -> Any:
    if isinstance(item, Away):
        return item.near
    if isinstance(item, torch.device) and item.type == DEVICE:
        return torch.device("cpu")
    return item
