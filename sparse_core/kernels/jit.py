"""Compiled kernels, and their cache on disk.

A kernel is a Python function made by a factory: the factory's arguments (group, tile, ...) are
constants of the machine code. Numba's own cache keeps an index beside its data and keys it by the
time stamp of one source file; two processes that compile at once, or a process that dies, can
leave the two in disagreement, and a change in another file goes unnoticed. Here every compiled
kernel is one file. Its name is a digest of the source of this package, the versions of Python,
Numba and llvmlite, the processor and its features, the kernel, its constants and its signature.
It is written to a temporary file, synced and renamed, and carries a digest of its content: what
is torn, foreign or stale is not loaded but compiled again. A cache that cannot be written is read
all the same; what it lacks is compiled in memory.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import pickle
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import llvmlite
import numba as typed_numba
from numba.core import bytecode, caching, compiler
from numba.core.compiler_lock import global_compiler_lock

from sparse_core.kernels import isa

CACHE_VARIABLE = "SPARSE_CORE_CACHE_DIR"
"""Environment variable with the directory of compiled kernels; empty means no cache."""

compilations = 0
"""Kernels that this process has compiled, rather than loaded."""

_MAGIC = b"sparse-core-kernel-1"
_STALE_SECONDS = 24 * 3600.0

numba: Any = typed_numba  # its types are incomplete
config: Any = numba.core.config
FunctionIdentity: Any = bytecode.FunctionIdentity
CompileResult: Any = compiler.CompileResult
BaseCache: Any = caching._Cache

P = ParamSpec("P")
R = TypeVar("R")


@cache
def fingerprint() -> str:
    """Return a digest of everything, bar the kernel itself, that machine code depends on."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    facts = (
        sys.version,
        sys.platform,
        numba.__version__,
        llvmlite.__version__,
        numba.core.registry.cpu_target.target_context.codegen().magic_tuple(),
        isa.host(),
        config.BOUNDSCHECK,
        int(config.OPT),
    )
    digest.update(repr(facts).encode())
    return digest.hexdigest()


def cache_dirs() -> list[Path]:
    """Return the directories where compiled kernels may lie, to be read in this order.

    `SPARSE_CORE_CACHE_DIR`, else `NUMBA_CACHE_DIR`, whoever they belong to: an image, a home that
    a cluster shares. Else the user's cache directory and a directory below the system's temporary
    directory, where these are the user's own.
    """
    configured = os.environ.get(CACHE_VARIABLE)
    if configured is not None:
        return [Path(configured)] if configured else []
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR) / "sparse_core"]
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    places = [
        Path(base) if base else Path.home() / ".cache",
        Path(tempfile.gettempdir()) / f"sparse_core-{user}",
    ]
    return [place / "sparse_core" for place in places if not _is_foreign(place / "sparse_core")]


def cache_dir() -> Path | None:
    """Return the first of `cache_dirs` that can be written, made if need be; None: none can."""
    return next(filter(_can_be_written, cache_dirs()), None)


def unkept() -> str:
    """Return what keeps kernels from being kept, and what to do; empty: nothing, or the user."""
    if os.environ.get(CACHE_VARIABLE) == "" or cache_dir() is not None:
        return ""
    tried = ", ".join(map(str, cache_dirs())) or "somebody else's"
    return (
        f"no folder for compiled kernels can be written ({tried}), so each process compiles for "
        f"some seconds: set {CACHE_VARIABLE} to a folder that can be"
    )


@cache
def _warn_once(text: str) -> None:
    if text:
        warnings.warn(text, stacklevel=2)


def _is_foreign(path: Path) -> bool:
    """Whether a directory is there and belongs to somebody else, who could put code into it."""
    try:
        return hasattr(os, "getuid") and path.stat().st_uid != os.getuid()
    except OSError:
        return False


def _can_be_written(path: Path) -> bool:
    """Create a directory for its user alone unless it is there; whether it can be written."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return os.access(path, os.W_OK | os.X_OK)


def read_entry(path: Path) -> bytes | None:
    """Return the content of a cache file, or None if it is missing, torn or foreign."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    head, body = raw[: len(_MAGIC) + 32], raw[len(_MAGIC) + 32 :]
    return body if head == _MAGIC + hashlib.sha256(body).digest() else None


def write_entry(path: Path, body: bytes) -> None:
    """Write a cache file so that a reader sees all of it or nothing.

    A cache that cannot be written (a full disk, a directory removed meanwhile) is not an error.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + hashlib.sha256(body).digest() + body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@cache
def _sweep(directory: Path) -> None:
    """Remove what killed processes left behind, once a process."""
    for path in directory.glob("*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


class KernelCache(BaseCache):  # type: ignore[misc]
    """The cache of one kernel: Numba asks it before it compiles and tells it afterwards."""

    def __init__(self, name: str) -> None:
        """Make the cache of the kernel of a name, which says all there is to say about it."""
        self._name, self._on = name, True

    def _place(self, sig: object) -> Path:
        """Return where an entry lies in a directory of the cache."""
        key = hashlib.sha256(f"{self._name} {sig!r}".encode()).hexdigest()
        return Path(fingerprint()[:16]) / f"{self._name}-{key[:16]}.bin"

    @property
    def cache_path(self) -> str | None:
        """Return the directory that is written to."""
        directory = cache_dir()
        return str(directory) if directory is not None else None

    def load_overload(self, sig: object, target_context: Any) -> Any:
        """Return the compiled kernel of a signature, or None."""
        target_context.refresh()
        for directory in cache_dirs() if self._on else []:
            body = read_entry(directory / self._place(sig))
            if body is not None:
                return CompileResult._rebuild(target_context, *pickle.loads(body))
        return None

    def save_overload(self, sig: object, data: Any) -> None:
        """Keep a compiled kernel."""
        global compilations
        compilations += 1
        directory = cache_dir() if self._on else None
        if directory is None:
            _warn_once(unkept())
        if directory is None or data.lifted or data.library.has_dynamic_globals:
            return
        path = directory / self._place(sig)
        write_entry(path, numba.core.serialize.dumps(data._reduce()))
        _sweep(path.parent)

    def enable(self) -> None:
        """Use the cache."""
        self._on = True

    def disable(self) -> None:
        """Do not use the cache."""
        self._on = False

    def flush(self) -> None:
        """Forget nothing: entries of another fingerprint are never read."""


def _describe(value: object) -> str:
    """Return what a constant of the machine code is, the same in every process."""
    if isinstance(value, (bool, int, float, str)):
        return repr(value)
    function = getattr(value, "py_func", None)
    if function is None:
        raise TypeError(f"a kernel may use numbers, strings and inlined functions, not {value!r}")
    return str(function.__qualname__)


@cache
def _foreign_source(file: str) -> str:
    """Return a digest of a file outside this package, which `fingerprint` does not cover."""
    path = Path(file)
    if path.parent == Path(__file__).parent:
        return ""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # an archive, whose content has one version
        return file


def _named(function: Callable[P, R], *facts: object) -> Callable[P, R]:
    """Rename a function after all that its machine code depends on.

    Symbols of machine code are called after functions, and where two modules define one symbol,
    the first one loaded wins for both. Numba tells functions apart by a counter, which starts
    anew in every process, so that two kernels from the cache could have one name.
    """
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    source = _foreign_source(function.__code__.co_filename)
    described = [*map(_describe, cells), *map(str, facts), fingerprint(), source]
    digest = hashlib.sha256("\n".join(described).encode()).hexdigest()
    function.__qualname__ = f"{function.__qualname__.split('.')[0]}_{digest[:24]}"
    return function


def once(factory: Callable[P, R]) -> Callable[P, R]:
    """Make a factory of kernels that makes each of them once, whichever thread asks first."""
    made: dict[tuple[object, ...], R] = {}

    @functools.wraps(factory)
    def get(*args: P.args, **kwargs: P.kwargs) -> R:
        key = (*args, *sorted(kwargs.items())) if kwargs else args
        if key not in made:
            with global_compiler_lock:
                if key not in made:
                    made[key] = factory(*args, **kwargs)
        return made[key]

    return get


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function that kernels may call; it is compiled with each of them."""
    callee: Callable[P, R] = numba.njit(nogil=True, error_model="numpy")(_named(function))
    return callee


def kernel(signature: str, *, parallel: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function for one signature, or load it from the cache.

    What the function uses from the enclosing scope, numbers, strings and `inlined` functions,
    become constants of the machine code.

    Args:
        signature: Numba signature, such as `"void(float32[:, ::1], int64)"`.
        parallel: Whether `prange` loops run on Numba's threads.

    Returns:
        A decorator. What it returns releases the interpreter lock while it runs.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        function = _named(function, signature, parallel)
        name = function.__qualname__
        dispatcher: Any = numba.njit(nogil=True, error_model="numpy", parallel=parallel)(function)
        dispatcher._cache = KernelCache(name)
        with global_compiler_lock:
            # The loops of a parallel function are functions, too, with names of their own: their
            # numbers start from the name of this one.
            counter = FunctionIdentity._unique_ids
            FunctionIdentity._unique_ids = itertools.count(int(name[-12:], 16) << 12)
            try:
                dispatcher.compile(signature)
            finally:
                FunctionIdentity._unique_ids = counter
        dispatcher.disable_compile()
        compiled: Callable[P, R] = dispatcher
        return compiled

    return decorate
