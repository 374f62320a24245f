"""Optimizers and losses, built in or of the user's own, by the names that a spec gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sparse_core.checks import InputError
from sparse_core.imports import load


def make_optimizer(
    name: str,
    known: Mapping[str, str],
    parameters: Iterable[nn.Parameter],
    **settings: Any,
) -> Optimizer:
    """Build an optimizer.

    Args:
        name: A key of `known`, or `package.module:NAME` of the user's own.
        known: Import strings by name.
        parameters: To be trained.
        settings: Keyword arguments: `lr` and what else it takes.

    Raises:
        InputError: If there is none such, or it takes other arguments.
    """
    expected = "a function or class (parameters, lr=...) -> Optimizer"
    reference = known.get(name, name)
    make = load("optimizer", reference, expected, lambda found: takes(found, None, **settings))
    made = make(parameters, **settings)
    if not isinstance(made, Optimizer):
        raise InputError(
            f"optimizer={name!r}: gave a {type(made).__name__}, must be {expected}",
            field="optimizer",
        )
    return made


def loss_of(
    name: str, known: Mapping[str, str], arguments: tuple[str, ...], home: str
) -> Callable[..., Any]:
    """Return a loss function.

    Args:
        name: A key of `known`, or `package.module:NAME` of the user's own.
        known: Import strings by name.
        arguments: What it is called with, in that order.
        home: The module of those built in, which a message names.

    Raises:
        InputError: If there is none such, or it takes other arguments.
    """
    expected = f"a function ({', '.join(arguments)}) such as those of {home}"
    reference = known.get(name, name)
    found: Callable[..., Any] = load(
        "loss", reference, expected, lambda found: takes(found, *arguments)
    )
    return found


def takes(found: object, *arguments: object, **settings: object) -> bool:
    """Return whether something can be called with these arguments."""
    if not callable(found):
        return False
    try:
        inspect.signature(found).bind(*arguments, **settings)
    except TypeError:
        return False
    except ValueError:  # of compiled code
        return True
    return True
