"""The user's own functions: found by name, called with what they are documented to take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sparse_core.checks import InputError
from sparse_core.imports import load

EXPECTED = {
    "benchmark": (
        "a function (tasks, seed) -> an Avalanche benchmark, or (train_x, train_y, test_x, test_y) "
        "of each task"
    ),
    "dataset": "a function () -> (train_x, train_y, test_x, test_y)",
    "network": "a function or class (features, classes, **network_kwargs) -> nn.Module",
    "optimizer": "a function or class (parameters, lr=..., **optimizer_kwargs) -> Optimizer",
    "metrics": "a function (model, tasks, accuracy_matrix) -> {name: number}",
}
"""Field -> what a reference in it must name."""


def find(field: str, reference: str) -> Callable[..., Any]:
    """Import what a reference names.

    Raises:
        InputError: In one line, if it is not there, or is nothing that can be called.
    """
    found: Callable[..., Any] = load(field, reference, EXPECTED[field], callable)
    return found


def call(field: str, reference: str, *arguments: Any, settings: Mapping[str, Any] = {}) -> Any:
    """Call what a reference names.

    Args:
        field: The field of `EXPECTED` that holds the reference.
        reference: `package.module:NAME` of a function or class.
        *arguments: What it is called with.
        settings: Further keyword arguments.

    Raises:
        InputError: In one line, if it is not there, cannot be called or takes other arguments.
    """
    return callable_with(field, reference, *arguments, settings=settings)(*arguments, **settings)


def callable_with(
    field: str, reference: str, *arguments: Any, settings: Mapping[str, Any] = {}
) -> Callable[..., Any]:
    """Return what a reference names, without calling it; arguments and errors as of `call`."""
    function = find(field, reference)
    try:
        signature = inspect.signature(function)
    except ValueError:  # of compiled code
        return function
    try:
        signature.bind(*arguments, **settings)
    except TypeError as error:
        raise InputError(
            f"{field}={reference!r}: takes {signature}, must be {EXPECTED[field]}: {error}",
            field=field,
        ) from None
    return function
