"""A warning, given once, of optimizers that train an engine's weights without its knowledge.

A topology moves on the steps of the optimizers that its engine is attached to. A copy of a network
has an engine of its own, attached to its own copy of the optimizer; an optimizer that is made for
the copy, or a second one for the same weights, would train them while the topology stands still.

Every optimizer step of the process passes through two hooks here. They look at an optimizer once;
if it holds no weight of an engine, or the engine knows it, later steps cost a look into a table. It
is looked at again when its parameters or some engine's optimizers change. Weights may also be
written by averages, target networks, loading and line searches: those are no optimizer steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from sparse_core.weights.engine_view import EngineView

_engines: WeakSet[EngineView] = WeakSet()
_harmless: WeakKeyDictionary[Optimizer, list[tuple[int, int]]] = WeakKeyDictionary()
_stepping: WeakKeyDictionary[Optimizer, list[tuple[EngineView, int]]] = WeakKeyDictionary()
_hooked = False


def watch(engine: EngineView) -> None:
    """Watch for unknown optimizers from here on; call this again when the known ones change."""
    global _hooked
    if not _hooked:
        register_optimizer_step_pre_hook(_before_step)
        register_optimizer_step_post_hook(_after_step)
        _hooked = True
    _engines.add(engine)
    _harmless.clear()


def leave(engine: EngineView) -> None:
    """Stop watching: the user was warned, or detached the engine."""
    _engines.discard(engine)


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if not _engines or _harmless.get(optimizer) == _parameters(optimizer):
        return
    ignorant = [engine for engine in _engines if _is_unknown(optimizer, engine)]
    if ignorant:
        _stepping[optimizer] = [(engine, engine.steps) for engine in ignorant]
    else:
        _harmless[optimizer] = _parameters(optimizer)


def _after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if not _stepping:
        return
    for engine, steps in _stepping.pop(optimizer, ()):
        # A known one may step inside this one or around it, as in sharpness-aware minimisation.
        if engine.steps != steps or engine.stepping:
            continue
        found = [
            (name, gone)
            for name, weight, gone in _weights(optimizer, engine)
            if gone or weight.grad is not None
        ]
        if found:
            leave(engine)
            _warn(optimizer, engine, *found[0])


def _parameters(optimizer: Optimizer) -> list[tuple[int, int]]:
    """Return what changes when an optimizer gets other parameters."""
    return [(id(group["params"]), len(group["params"])) for group in optimizer.param_groups]


def _is_unknown(optimizer: Optimizer, engine: EngineView) -> bool:
    """Whether an optimizer holds weights of an engine that does not know the optimizer."""
    known = any(optimizer is trainer for trainer in engine.trainers)
    return not known and any(_weights(optimizer, engine))


def _weights(optimizer: Optimizer, engine: EngineView) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield an engine's weights that an optimizer holds: name, weight, whether it was replaced.

    Where the topology never moves, it may train the weights as it likes.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    moves = engine.updater is not None
    for tensor in engine.tensors:
        own = tensor.layer._parameters  # whatever became of the layer since
        weight = own.get("values", own.get(tensor.parameter))
        for parameter, replaced in ((weight, False), (tensor.stands_for, True)):
            if parameter is not None and id(parameter) in held and (moves or replaced):
                yield tensor.name, parameter, replaced


def _warn(optimizer: Optimizer, engine: EngineView, name: str, replaced: bool) -> None:
    who, whose = type(optimizer).__name__, type(engine.root).__name__
    if replaced:
        what, otherwise = "which condensed weights have replaced: its steps do not train them", ""
    else:
        attached = "another optimizer" if engine.trainers else "no optimizer"
        what = f"whose engine is attached to {attached}: its steps do not move the topology"
        otherwise = ", or detach() if it is to stand still"
    warnings.warn(
        f"{who} holds the sparse weight {name!r} of a {whose}, {what}; call "
        f"module.sparse_engine.attach(optimizer){otherwise}",
        stacklevel=4,
    )
