"""The user's own functions: found by name, called with what they are documented to take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from sparse_core.checks import InputError
from sparse_core.imports import load


def call(
    field: str, reference: str, expected: str, *arguments: Any, settings: Mapping[str, Any] = {}
) -> Any:
    """Call what a reference names.

    Args:
        field: The field that holds the reference, for errors.
        reference: `package.module:NAME` of a function or class.
        expected: What it must be, with its signature.
        *arguments: What it is called with.
        settings: Further keyword arguments.

    Raises:
        InputError: In one line, if it is not there, cannot be called or takes other arguments.
    """
    function = load(field, reference, expected, callable)
    try:
        signature = inspect.signature(function)
    except ValueError:  # of compiled code
        return function(*arguments, **settings)
    try:
        signature.bind(*arguments, **settings)
    except TypeError as error:
        raise InputError(
            f"{field}={reference!r}: takes {signature}, must be {expected}: {error}", field=field
        ) from None
    return function(*arguments, **settings)
