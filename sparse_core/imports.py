"""Objects of the user's own, named by `package.module:NAME` wherever a name of ours can stand.

Before a module is imported, only its file is read: `fingerprint` tells two versions of a module
apart without importing it, for a run's identity and its provenance.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from sparse_core.checks import InputError

EXTRAS = {
    "ale_py": "atari",
    "cv2": "atari",
    "minatar": "minatar",
    "mujoco": "mujoco",
    "optuna": "tune",
    "sb3_contrib": "contrib",
}
"""Modules of others that come with one of this project's extras, and which."""

REFERENCE = re.compile(r"[^\W\d]\w*(\.\w+)*:[^\W\d]\w*(\.\w+)*")


def is_reference(name: object) -> bool:
    """Whether a name has the form `package.module:NAME`."""
    return isinstance(name, str) and REFERENCE.fullmatch(name) is not None


def load(
    field: str, reference: str, expected: str, accepts: Callable[[Any], bool] | None = None
) -> Any:
    """Import the object that a reference names.

    Args:
        field: The configuration field or option that holds it, for errors.
        reference: `package.module:NAME`; the name may be dotted, `module:Class.method`.
        expected: What the object must be, to complete "must be ...".
        accepts: Whether an object is that; None: any is.

    Raises:
        InputError: In one line with the reference, the file of its module and what was expected:
            if it has another form, there is no such module or name, importing it fails, or the
            object is of the wrong kind.
    """
    said = f"{field}={reference!r}"
    if not is_reference(reference):
        raise InputError(f"{said}: must be package.module:NAME of {expected}", field=field)
    module_name, _, name = reference.partition(":")
    found: Any = import_module(field, reference, module_name, expected)
    where = _where(module_name)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise InputError(
                f"{said}: module {where} has no {name!r}{_hidden(module_name)}; it must be "
                f"{expected}",
                field=field,
            ) from error
        except (Exception, SystemExit) as error:  # a module's own __getattr__
            raise InputError(
                f"{said}: {name!r} of module {where} cannot be imported: {_reason(error)}; it must "
                f"be {expected}",
                field=field,
            ) from error
    if accepts is not None and not accepts(found):
        raise InputError(f"{said}: is {_kind(found)} in {where}, must be {expected}", field=field)
    return found


def import_module(field: str, value: str, module_name: str, expected: str) -> ModuleType:
    """Import a module that a configuration's value names.

    Args:
        field: The configuration field or option, for errors.
        value: What it holds.
        module_name: The part of the value that names the module.
        expected: What the module must hold.

    Raises:
        InputError: In one line, if there is no such module, or importing it fails.
    """
    said = f"{field}={value!r}"
    check_module(field, value, module_name, expected)
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{said}: module {_where(module_name)} cannot be imported: {_reason(error)}",
            field=field,
        ) from error


def check_module(field: str, value: str, module_name: str, expected: str) -> None:
    """Check that a module is there, without importing it; see `import_module`.

    Raises:
        InputError: In one line, if it is not.
    """
    if source(module_name) is None and _missing(module_name):
        way_out = extra_of(module_name) or f"; it must hold {expected}"
        raise InputError(
            f"{field}={value!r}: there is no module {module_name!r} here or among what is "
            f"installed{_hidden(module_name)}{way_out}",
            field=field,
        )


def extra_of(module_name: str) -> str:
    """Return how to install a module of another's, to end a message; empty: not by an extra."""
    extra = EXTRAS.get(module_name.partition(".")[0])
    return "" if extra is None else f": pip install 'dstrl[{extra}]'"


def source(reference: str) -> Path | None:
    """Return the file of a reference's module; None: there is none, or it has no file.

    Gymnasium's `module:Env-v0` has a module too. Nothing is imported, not even a parent package.
    """
    spec = _find(reference.partition(":")[0])
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    return Path(spec.origin)


def fingerprint(reference: str) -> str:
    """Return 16 hexadecimal digits of what the module's file says; empty if it has none.

    A module that is a package is all Python files in its folder.
    """
    file = source(reference)
    if file is None or not file.is_file():
        return ""
    digest = hashlib.sha256()
    if file.name == "__init__.py":
        # Editors leave links that lead nowhere, such as `.#rules.py`.
        for part in sorted(part for part in file.parent.rglob("*.py") if part.is_file()):
            digest.update(f"{part.relative_to(file.parent).as_posix()}\0".encode())
            digest.update(part.read_bytes())
    else:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _find(module_name: str) -> ModuleSpec | None:
    first, *parts = module_name.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    name = first
    for part in parts:
        name = f"{name}.{part}"
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec


def _where(module_name: str) -> str:
    file = source(module_name)
    return f"{module_name!r} ({file})" if file is not None else repr(module_name)


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")


def _missing(module_name: str) -> bool:
    """Whether no module of this name can be found; one that fails at its parents can."""
    try:
        return importlib.util.find_spec(module_name) is None
    except ModuleNotFoundError as error:
        return error.name is not None and f"{module_name}.".startswith(f"{error.name}.")
    except Exception:
        return False


def _hidden(module_name: str) -> str:
    """Say that a module or package of the current folder is not the one that Python finds."""
    first = module_name.partition(".")[0]
    spec = _find(first)
    here = next((path for path in (Path(first), Path(f"{first}.py")) if path.exists()), None)
    if spec is None or here is None:
        return ""
    places = spec.submodule_search_locations or (spec.origin or "",)
    found = [Path(place).resolve() for place in places]
    return "" if here.resolve() in found else f" ({found[0]} hides {here.resolve()})"


def _kind(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__}"
    name = type(found).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
