"""The environment of a worker process, set before its Python starts.

Thread counts come first: two processes with two spinning threads each run over 40 times slower on
two cores than with one thread each.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from sparse_core.command import ROOT
from sweeps.runs.provenance import THREAD_VARIABLES


def worker_environment(
    threads: int, inherited: Mapping[str, str], folder: Path | None = None
) -> dict[str, str]:
    """Return the environment of a worker with this many threads.

    Args:
        threads: Threads of each numerical library.
        inherited: The driver's environment. Its thread counts are overruled, the rest is kept.
        folder: Where the worker starts; None: here.
    """
    environment = {
        "NUMBA_CACHE_DIR": str(numba_cache(inherited)),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONFAULTHANDLER": "1",
        **inherited,
        "PYTHONUNBUFFERED": "1",
    }
    return importable(environment, folder) | dict.fromkeys(THREAD_VARIABLES, str(threads))


def importable(environment: Mapping[str, str], folder: Path | None = None) -> dict[str, str]:
    """Return an environment in which children that start with `python -P` find our packages.

    They start apart from their folder, here if it is None, so that nothing in it hides a package; a
    checkout that is not installed may have been found there alone.
    """
    if (folder or Path.cwd()) != ROOT:
        return dict(environment)
    path = filter(None, [environment.get("PYTHONPATH"), str(ROOT)])
    return {**environment, "PYTHONPATH": os.pathsep.join(path)}


def numba_cache(environment: Mapping[str, str]) -> Path:
    """Return the folder of compiled kernels that all workers share.

    It is named after numba's version and the source of the kernels, so that neither can meet stale
    machine code.
    """
    root = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256()
    package = importlib.util.find_spec("sparse_core")
    for folder in (package and package.submodule_search_locations) or ():
        for source in sorted(Path(folder).rglob("*.py")):
            digest.update(source.read_bytes())
    try:
        version = metadata.version("numba")
    except metadata.PackageNotFoundError:
        version = "none"
    return root / "dstrl" / f"numba-{version}-{digest.hexdigest()[:12]}"
