"""What a run can take from modules of the user's: networks, optimizers, callbacks.

Each is named by `package.module:NAME`. Torch is imported only where one is named.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sparse_core.checks import InputError
from sparse_core.imports import load

if TYPE_CHECKING:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from torch import nn
    from torch.optim import Optimizer


@runtime_checkable
class Measures(Protocol):
    """A callback whose numbers become part of the run's result."""

    def result(self) -> Mapping[str, Any]:
        """Return what was measured, as JSON can hold it; called when training has ended."""


def activation(reference: str) -> type[nn.Module]:
    """Return the activation that is named.

    Raises:
        InputError: If there is none, or it is no class of torch modules.
    """

    def accepts(found: Any) -> bool:
        from torch import nn

        return isinstance(found, type) and issubclass(found, nn.Module)

    loaded: type[nn.Module] = load(
        "hyper.activation", reference, "a class of torch modules", accepts
    )
    return loaded


def features_extractor(reference: str, arguments: Mapping[str, Any]) -> type[BaseFeaturesExtractor]:
    """Return the features extractor that is named.

    Args:
        reference: Its name.
        arguments: What it will be given beside the space of observations.

    Raises:
        InputError: If there is none, it is no features extractor of Stable-Baselines3, or does not
            take these arguments.
    """

    def accepts(found: Any) -> bool:
        from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

        return isinstance(found, type) and issubclass(found, BaseFeaturesExtractor)

    expected = "a class of Stable-Baselines3's BaseFeaturesExtractor"
    loaded: type[BaseFeaturesExtractor] = load("features_extractor", reference, expected, accepts)
    try:
        inspect.signature(loaded).bind(None, **arguments)
    except TypeError as error:
        raise InputError(
            f"features_extractor_kwargs={dict(arguments)!r}: {error} of {reference}",
            field="features_extractor_kwargs",
        ) from None
    return loaded


def optimizer(reference: str) -> type[Optimizer]:
    """Return the optimizer that is named.

    Raises:
        InputError: If there is none, or it is no class of torch optimizers.
    """

    def accepts(found: Any) -> bool:
        from torch.optim import Optimizer

        return isinstance(found, type) and issubclass(found, Optimizer)

    loaded: type[Optimizer] = load("optimizer", reference, "a class of torch optimizers", accepts)
    return loaded


def callback(reference: str) -> BaseCallback:
    """Make the callback that is named.

    Raises:
        InputError: If there is none, or it makes no callback of Stable-Baselines3.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    made = check_callback(reference)()
    if not isinstance(made, BaseCallback):
        raise InputError(
            f"callbacks={reference!r}: returns {type(made).__name__}, must return a BaseCallback "
            "of Stable-Baselines3",
            field="callbacks",
        )
    return made


def measured(reference: str, callback: Measures) -> dict[str, Any]:
    """Return what a callback has measured.

    Args:
        reference: What names it.
        callback: The callback, after training.

    Raises:
        InputError: If that is not a mapping that JSON can hold.
    """
    given = callback.result()
    try:
        if not isinstance(given, Mapping):
            raise TypeError(f"a {type(given).__name__} is no mapping")
        json.dumps(dict(given), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"callbacks={reference!r}: result() must return a mapping that JSON can hold: {error}",
            field="callbacks",
        ) from error
    return dict(given)


def check_callback(reference: str) -> Any:
    """Return what makes the callback that is named.

    Raises:
        InputError: If there is none, or it cannot be called without arguments.
    """

    def accepts(found: Any) -> bool:
        try:
            inspect.signature(found).bind()
        except (TypeError, ValueError):
            return False
        return True

    expected = "a class of callbacks, or a function, that takes no arguments"
    return load("callbacks", reference, expected, accepts)
