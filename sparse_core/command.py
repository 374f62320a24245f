"""How `dst` and its workers start: check our packages, and let the current folder be imported.

`dst` begins here and not in `sweeps`, so that it can also report a folder of the user's that hides
`sweeps`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from sparse_core.checks import InputError

PACKAGES = ("sparse_core", "envs", "dstrl", "continual", "supervised", "sweeps")
ROOT = Path(__file__).resolve().parents[1]
FAILED, WRONG_INPUT = 1, 2


def main() -> int:
    """Run `dst` with the arguments of this process and return its exit code."""
    try:
        refuse_hidden()
    except InputError as error:
        print(f"dst: {error}", file=sys.stderr)
        return WRONG_INPUT
    try:
        try:
            return int(importlib.import_module("sweeps.cli").main())
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def refuse_hidden() -> None:
    """Check that Python finds this project's packages, and not others of the same names.

    Raises:
        InputError: In one line with both paths, if another package or folder hides one of ours.
    """
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        places = () if spec is None else spec.submodule_search_locations or (spec.origin or "",)
        found = [Path(place).resolve() for place in places]
        if found and ROOT / name not in found:
            raise InputError(
                f"package {name!r}: {found[0]} hides {ROOT / name}; rename it, or keep "
                f"{found[0].parent} out of PYTHONPATH and do not use python -m there"
            )


def search_here() -> None:
    """Let modules of the current folder be imported, where nothing installed has their name.

    The folder comes after everything else that finds modules, editable installations included,
    which an entry at the end of `sys.path` would not.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Here)]
    sys.meta_path.append(_Here(Path.cwd()))
    importlib.invalidate_caches()


class _Here:
    """Finds the modules of one folder."""

    def __init__(self, folder: Path) -> None:
        self._path = [str(folder)]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if path is not None else PathFinder.find_spec(name, self._path, target)
