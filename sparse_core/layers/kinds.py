"""The class of a layer that becomes sparse: its own, computing in another way.

A dense layer becomes a sparse one by a change of its class. A plain `nn.Linear` becomes a
`MaskedLinear`; a layer of a class derived from `nn.Linear` stays what it is beside its new form:

    class Mine(nn.Linear): ...         ->   class MaskedMine(MaskedLinear, Mine)

so it keeps its methods, is an instance of both, and can be copied and pickled.
"""

from __future__ import annotations

import copyreg
import types
from collections.abc import Iterable
from typing import Any, ClassVar

from torch import nn


class Joined(nn.Module):
    """The base of all classes that join a sparse form with a layer's own class.

    Attributes:
        form: How the layer computes, such as `MaskedLinear`.
        own: The class that it has when it is dense.
    """

    form: ClassVar[type[nn.Module]]
    own: ClassVar[type[nn.Module]]

    def __reduce_ex__(self, protocol: Any) -> Any:
        made = super().__reduce_ex__(protocol)
        if made[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return made
        return (_new, (self.form, self.own, *made[1][1:]), *made[2:])


def become(layer: nn.Module, form: type[nn.Module]) -> None:
    """Give a layer the class with which it computes as `form` and otherwise stays what it was.

    Args:
        layer: A layer of any class derived from the dense one of the form.
        form: A sparse form, such as `MaskedLinear`, or a class that has it.
    """
    own = own_class(layer)
    form = form.form if issubclass(form, Joined) else form
    layer.__class__ = form if own is _dense_base(form) else _joined(form, own)


def own_class(layer: nn.Module) -> type[nn.Module]:
    """Return the class that a layer has when it is dense."""
    kind = type(layer)
    if issubclass(kind, Joined):
        return kind.own
    return _dense_base(kind) if _is_ours(kind) else kind


def computes_as(layer: nn.Module, kinds: Iterable[type[nn.Module]]) -> type[nn.Module] | None:
    """Return the dense class whose forward pass a layer has; None: it has another one."""
    kinds = list(kinds)
    if "forward" in vars(layer):
        return None
    if type(layer) in kinds:
        return type(layer)
    forward = type(layer).forward
    return next((k for k in kinds if isinstance(layer, k) and forward is k.forward), None)


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == __package__.partition(".")[0]


def _dense_base(form: type[nn.Module]) -> type[nn.Module]:
    return next(kind for kind in form.__mro__ if not _is_ours(kind))


def _joined(form: type[nn.Module], own: type[nn.Module]) -> type[nn.Module]:
    if (form, own) not in _made:
        name = form.__name__.removesuffix(_dense_base(form).__name__) + own.__name__
        body = {"form": form, "own": own, "__module__": own.__module__, "__doc__": own.__doc__}
        _made[form, own] = types.new_class(
            name, (Joined, form, own), {}, lambda namespace: namespace.update(body)
        )
    return _made[form, own]


_made: dict[tuple[type[nn.Module], type[nn.Module]], type[nn.Module]] = {}


def _new(form: type[nn.Module], own: type[nn.Module], *arguments: Any) -> nn.Module:
    """Make an empty layer of a joined class, to be filled by whoever copies or loads it."""
    kind = _joined(form, own)
    made: nn.Module = kind.__new__(kind, *arguments)
    return made
