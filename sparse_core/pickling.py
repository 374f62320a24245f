"""Graphs of live objects, pickled so that they go on: tensors that share memory still share it.

Environments that Gymnasium pickles by the arguments of their constructors (`EzPickle`) are pickled
with their state instead. What cannot be pickled raises; nothing is left out.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import torch

PROTOCOL = 5

_outside: dict[str, Any] = {}
"""While a graph is unpickled: what stands for the objects that did not belong to it."""


Reduce = Callable[[Any], Any]
"""Says how an object is pickled, as `pickle.Pickler.reducer_override` does, or `NotImplemented`."""


def pickled(graph: Any, outside: Mapping[str, Any], reduce: Reduce | None = None) -> bytes:
    """Pickle a graph of objects.

    Args:
        graph: Its root.
        outside: Objects that it refers to, by name, that do not belong to it; no lists, tuples or
            dictionaries, which pickle without asking.
        reduce: How objects are pickled whose own way leaves something out.
    """
    names = {id(value): name for name, value in outside.items()}

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            name = names.get(id(obj))
            if name is not None:
                return _stand_in, (name,)
            if "_ezpickle_args" in getattr(obj, "__dict__", ()):
                return by_state(obj, vars(obj))
            found = NotImplemented if reduce is None else reduce(obj)
            return found if found is not NotImplemented else super().reducer_override(obj)

    held = io.BytesIO()
    module = SimpleNamespace(__name__="cloudpickle", Pickler=Pickler)
    torch.save(graph, held, pickle_module=module, pickle_protocol=PROTOCOL)
    return held.getvalue()


def unpickled(body: bytes, outside: Mapping[str, Any]) -> Any:
    """Return a graph that was pickled, with objects that stand for those outside it."""
    _outside.update(outside)
    try:
        return torch.load(io.BytesIO(body), weights_only=False)
    finally:
        _outside.clear()


def by_state(
    obj: Any, state: Mapping[str, Any], put: Callable[[Any, Mapping[str, Any]], None] | None = None
) -> tuple[Any, ...]:
    """Return how to pickle an object by its attributes, whatever its class says.

    Args:
        obj: The object.
        state: Its attributes, or those that are kept.
        put: Sets them; None: they become its `__dict__`.
    """
    return _bare, (type(obj),), dict(state), None, None, put or _set_state


def streams() -> dict[str, Any]:
    """Return the states of the global random streams of Python, NumPy and torch."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }


def set_streams(states: Mapping[str, Any]) -> None:
    """Put the global random streams back."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])


def _stand_in(name: str) -> Any:
    return _outside[name]


def _bare(cls: type[Any]) -> Any:
    return object.__new__(cls)


def _set_state(obj: Any, state: Mapping[str, Any]) -> None:
    vars(obj).update(state)
