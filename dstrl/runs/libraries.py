"""Libraries that a run's environment needs and that may not be installed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.util import find_spec

from sparse_core.imports import extra_of


@functools.cache
def missing_library(env: str) -> str | None:
    """Say which library one of Gymnasium's or our own environments lacks.

    Only making it tells, which may be dear or have effects with the environments of others.

    Args:
        env: Its id.

    Returns:
        What to install; None if nothing is missing, or the environment is another's.
    """
    import gymnasium

    made_by = gymnasium.registry[env].entry_point if env in gymnasium.registry else None
    if not isinstance(made_by, str):
        return None
    if made_by.startswith("envs.minatar"):
        return _lacks("minatar", "MinAtar")
    if not made_by.startswith("gymnasium.envs."):
        return None
    try:
        gymnasium.make(env).close()
    except gymnasium.error.DependencyNotInstalled as error:
        if ".mujoco" in made_by:
            return f"needs MuJoCo{extra_of('mujoco')}"
        return " ".join(str(error).split())
    return None


def missing_for_wrappers(wrappers: Sequence[str]) -> str | None:
    """Say which library one of Gymnasium's wrappers lacks; None: none does."""
    images = any(name.rpartition(":")[2] == "AtariPreprocessing" for name in wrappers)
    return _lacks("cv2", "OpenCV") if images else None


def _lacks(module: str, name: str) -> str | None:
    return None if _is_there(module) else f"needs {name}{extra_of(module)}"


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # what stands for it in `sys.modules` is no module
        return False
