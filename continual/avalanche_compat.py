"""Avalanche, importable also where torchvision's compiled operators are not, and faster.

At import Avalanche asks for modules that a metric, a logger or a data set of its uses and nothing
else. They take half of the time; here they are imported when they are used. It also writes a file
of settings into the user's home, which need not be writable here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from sparse_core.torchvision_compat import prepare_torchvision

DEFERRED: dict[str, tuple[str, ...]] = {
    "gdown": (),
    "torchmetrics": (),
    "torchmetrics.functional": ("accuracy",),
    "wandb": (),
}
"""Module that is imported when it is used -> functions that Avalanche takes from it at import."""


class _Later(ModuleType):
    """Stands for a module until something of it is asked for."""

    def __init__(self, name: str, functions: tuple[str, ...]) -> None:
        super().__init__(name)
        for function in functions:
            setattr(self, function, self._caller(function))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        package = self.__name__.partition(".")[0]
        for other in DEFERRED:
            if other.partition(".")[0] == package and isinstance(sys.modules.get(other), _Later):
                del sys.modules[other]
        return getattr(importlib.import_module(self.__name__), name)

    def _caller(self, function: str) -> Callable[..., Any]:
        return lambda *words, **named: self.__getattr__(function)(*words, **named)


@contextlib.contextmanager
def _deferred() -> Iterator[None]:
    """Let the modules of `DEFERRED` that are not imported yet stand for themselves within."""
    wanted = [name for name in DEFERRED if name not in sys.modules]
    made = {
        name: _Later(name, DEFERRED[name]) for name in wanted if find_spec(name.partition(".")[0])
    }
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Let Avalanche write its settings elsewhere within, where the home cannot be written."""
    folder = Path.home() / ".avalanche"
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
    if (folder / "config.json").exists() or os.access(folder, os.W_OK):
        yield
        return
    with tempfile.TemporaryDirectory() as home:
        kept = os.environ.get("HOME")
        os.environ["HOME"] = home
        try:
            yield
        finally:
            os.environ.pop("HOME")
            os.environ.update({} if kept is None else {"HOME": kept})
    utils = importlib.import_module("avalanche.benchmarks.datasets.dataset_utils")
    utils.set_dataset_root(str(folder / "data"))


def import_avalanche() -> ModuleType:
    """Import Avalanche and return it; its dependencies' warnings at import are not ours to show."""
    prepare_torchvision()
    with warnings.catch_warnings(), _deferred(), _settings():
        warnings.simplefilter("ignore")
        for part in ("benchmarks", "evaluation", "models", "training"):
            importlib.import_module(f"avalanche.{part}")
        return importlib.import_module("avalanche")


avalanche = import_avalanche()
