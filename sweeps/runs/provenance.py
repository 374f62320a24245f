"""Where a result comes from: versions, commit, machine, threads, time and memory."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sparse_core.command import PACKAGES as OURS
from sparse_core.command import ROOT

PACKAGES = (
    "dstrl",
    "torch",
    "numpy",
    "numba",
    "gymnasium",
    "stable-baselines3",
    "avalanche-lib",
)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)


class Meter:
    """Measures a span of this process: wall and CPU seconds (children included) and peak memory."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = _cpu_seconds()
        self._peak = 0.0

    def go_on(self, used: Mapping[str, float]) -> None:
        """Measure as if what an earlier process's meter read had been used here before now."""
        self._wall = time.perf_counter() - used["wall_s"]
        self._cpu = _cpu_seconds() - used["cpu_s"]
        self._peak = used["peak_rss_mb"]

    def read(self) -> dict[str, float]:
        """Return `wall_s`, `cpu_s` and `peak_rss_mb` (of the largest process so far)."""
        return {
            "wall_s": round(time.perf_counter() - self._wall, 3),
            "cpu_s": round(_cpu_seconds() - self._cpu, 3),
            "peak_rss_mb": round(max(self._peak, _peak_rss_mb()), 1),
        }


def describe() -> dict[str, Any]:
    """Return the versions, the commit and the machine of this process."""
    return {
        "versions": versions(),
        "git": git_state(),
        "threads": threads(),
        "cpu": cpu_model(),
        "cpus": available_cpus(),
        "platform": platform.platform(),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and `PACKAGES`; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def source_digest() -> str:
    """Return a digest of all files of Python of this project's packages."""
    digest = hashlib.sha256()
    for name in OURS:
        for path in sorted((ROOT / name).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def git_state() -> dict[str, Any] | None:
    """Return commit and dirty flag of the checkout that this code runs from, if it is one."""
    source = Path(__file__).resolve()
    try:
        if _git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
            return None
        commit = _git(source.parent, "rev-parse", "--verify", "HEAD")
        changes = _git(source.parent, "status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:
        return None
    return None if commit is None else {"commit": commit, "dirty": bool(changes)}


def threads() -> int:
    """Return the threads that this process was given, as the environment says."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() else available_cpus()


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """Return the name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_rss_mb() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peaks = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return max(peaks) / unit
