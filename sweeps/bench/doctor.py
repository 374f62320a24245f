"""`dst doctor`: what the machine and the installation are, and what is wrong with them.

Nothing is changed. Everything is looked at apart from everything else, so that a torch that cannot
be imported does not hide the rest.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sweeps.commands.parser import DATA
from sweeps.runs.provenance import available_cpus, cpu_model, versions

FINE, WRONG = 0, 1
NOT_FOR_USERS = ("dev", "docs", "peers")
"""Extras that only work on the project itself needs."""

TOGETHER = (
    "pip install --force-reinstall torch torchvision "
    "--index-url https://download.pytorch.org/whl/cpu (or the index of your GPU's build for both)"
)
EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
DISTRIBUTION = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Finding:
    """One line of the answer.

    Attributes:
        label: What was looked at.
        text: What it is.
        advice: What is wrong with it and what to do; empty: nothing.
    """

    label: str
    text: str
    advice: str = ""


def main() -> int:
    """Print findings, then advice, and return 1 if something is wrong."""
    found = [finding for check in CHECKS for finding in looked_at(check)]
    for finding in found:
        print(f"{finding.label:<12} {finding.text}", flush=True)
    advice = [finding for finding in found if finding.advice]
    for finding in advice:
        print(f"! {finding.label}: {finding.advice}")
    return WRONG if advice else FINE


def looked_at(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield a check's findings; a check that fails is a finding, too."""
    try:
        yield from check()
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        yield Finding(check.__name__, "could not be looked at", said)


def machine() -> Iterator[Finding]:
    """Say which processor it is and how wide its vectors are."""
    from sparse_core.kernels import isa

    bits = 32 * isa.host().lanes
    yield Finding("processor", f"{cpu_model()}, {available_cpus()} CPUs for this process")
    yield Finding("vectors", f"{bits} bits, kernels in tiles of {isa.host().tiles[-1]} samples")


def threads() -> Iterator[Finding]:
    """Say how many threads torch takes by itself."""
    import torch

    named = os.environ.get("OMP_NUM_THREADS")
    text = f"{torch.get_num_threads()}, OMP_NUM_THREADS={named or 'not set'}; dst sets one a run"
    yield Finding("threads", text)


def libraries() -> Iterator[Finding]:
    """Say which versions there are."""
    found = versions()
    known = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    missing = [name for name, version in found.items() if version is None]
    advice = f"not installed: {', '.join(missing)}; pip install dstrl" if missing else ""
    yield Finding("versions", known, advice)


def torchvision() -> Iterator[Finding]:
    """Check that torchvision is built for this torch, by what it says and by loading it."""
    torch_version, version = metadata.version("torch"), metadata.version("torchvision")
    text = f"{version} beside torch {torch_version}"
    advice = mismatch(torch_version, version, metadata.requires("torchvision") or [])
    try:
        importlib.import_module("torchvision")
    except (RuntimeError, AttributeError, ImportError) as error:
        said = " ".join(str(error).split())
        advice = (
            advice or f"cannot be imported ({said}); it was not built for this torch: {TOGETHER}"
        )
    yield Finding("torchvision", text if advice else f"{text}, fits", advice)


def mismatch(torch_version: str, version: str, requires: list[str]) -> str:
    """Return what is wrong where torchvision names another version of torch than is installed."""
    pins = [match for line in requires if (match := re.match(r"torch\s*\(?==\s*([\d.]+)", line))]
    wanted = pins[0][1] if pins else ""
    if not wanted or torch_version.partition("+")[0] == wanted:
        return ""
    return f"{version} needs torch {wanted}, but {torch_version} is installed: {TOGETHER}"


def blas() -> Iterator[Finding]:
    """Say which library multiplies dense matrices, and how fast."""
    from sweeps.bench import peak

    yield Finding("blas", f"{peak.blas()}, {peak.blas_gflops():.0f} GFLOP/s with 1024 x 1024")


def kernels() -> Iterator[Finding]:
    """Say where compiled kernels are kept, and check that they can be."""
    from sparse_core.kernels import jit

    folder = jit.cache_dir()
    if folder is not None:
        count = sum(1 for path in folder.rglob("*") if path.is_file())
        yield Finding("kernels", f"{count} files in {folder}")
        return
    wanted = f"{jit.CACHE_VARIABLE} is empty, so each process compiles for some seconds: unset it"
    yield Finding("kernels", "are kept nowhere", jit.unkept() or wanted)


def gpu() -> Iterator[Finding]:
    """Say which GPU there is."""
    import torch

    if not torch.cuda.is_available():
        yield Finding("gpu", "none that torch can use")
        return
    triton = (
        "with Triton" if importlib.util.find_spec("triton") else "no Triton, masked layers only"
    )
    yield Finding("gpu", f"{torch.cuda.get_device_name()}, {triton}")


def data() -> Iterator[Finding]:
    """Say which data sets are there."""
    root = os.environ.get(DATA)
    if not root:
        yield Finding("data", f"{DATA} is not set; dst data list")
    elif not Path(root).is_dir():
        yield Finding("data", root, f"{DATA}={root!r} is no folder: make it, or name another")
    else:
        from continual.runs.fetching import present

        yield Finding("data", f"{', '.join(present(Path(root))) or 'nothing'} in {root}")


def extras() -> Iterator[Finding]:
    """Say which optional parts are there."""
    wanted: dict[str, list[str]] = {}
    for line in metadata.requires("dstrl") or []:
        extra, name = EXTRA.search(line), DISTRIBUTION.match(line)
        if extra and name and extra[1] not in NOT_FOR_USERS:
            wanted.setdefault(extra[1], []).append(name[0])
    there = [extra for extra, names in wanted.items() if all(map(installed, names))]
    absent = [extra for extra in wanted if extra not in there]
    text = f"{', '.join(there) or 'none'}; not there: {', '.join(absent) or 'none'}"
    yield Finding("extras", text)


def installed(name: str) -> bool:
    """Whether a distribution is installed."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    machine, blas, threads, libraries, torchvision, kernels, gpu, data, extras,
)  # fmt: skip
