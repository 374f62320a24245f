"""Which launchers there are, and their own settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sparse_core.checks import InputError, one_of
from sparse_core.imports import is_reference, load
from sparse_core.strict_yaml import read_yaml
from sweeps.language import spec as specs
from sweeps.language.hooks import takes
from sweeps.launchers.options import Options
from sweeps.store.directory import RunDir

T = TypeVar("T")

LAUNCHERS = {
    "local": ("sweeps.launchers.local:launch", "processes on this machine"),
    "dask": ("sweeps.launchers.dask:launch", "workers of Dask, its own or those at --address"),
    "ray": ("sweeps.launchers.ray:launch", "tasks of Ray, its own or those at --address"),
    "slurm": ("sweeps.launchers.slurm:launch", "arrays of Slurm's jobs, through submitit"),
}


class Launcher(Protocol):
    """Brings runs to their ends; a launcher of the user's own is one too."""

    def __call__(
        self, runs: Sequence[RunDir], options: Options, watch: Callable[[], None], /
    ) -> None:
        """Return once every run is done or failed.

        Without runs it only checks its options, which happens before anything is written.

        Args:
            runs: Prepared run directories; done ones are skipped, failed ones are run again.
            options: How to launch.
            watch: To be called again and again from this thread, and once at the end.

        Raises:
            InputError: If the options are wrong, or what it needs is not there.
        """
        ...


def find(name: str) -> Launcher:
    """Return a launcher by its name, or by `package.module:NAME`.

    Raises:
        InputError: If there is none.
    """
    if not is_reference(name):
        one_of("launcher", name, [*LAUNCHERS, "package.module:NAME"])
    reference = LAUNCHERS[name][0] if name in LAUNCHERS else name
    expected = "a function launch(runs, options, watch), see sweeps.launchers.choice"
    found: Launcher = load("launcher", reference, expected, lambda found: takes(found, 3))
    return found


def read_settings(path: Path | None) -> Mapping[str, Any]:
    """Read a launcher's own settings from a YAML file.

    Raises:
        InputError: If it cannot be read or is no mapping.
    """
    if path is None:
        return {}
    said = f"launcher_options={str(path)!r}"
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{said}: cannot be read: {reason}", "launcher_options") from error
    except InputError as error:
        raise InputError(f"{said}: {error}", "launcher_options") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{said}: must be a mapping of settings", field="launcher_options")
    return content


def settings_of(launcher: str, cls: type[T], options: Options) -> T:
    """Return a launcher's own settings as a dataclass.

    Raises:
        InputError: If there is an unknown key or a wrong value.
    """
    try:
        return specs.load(cls, options.settings)
    except InputError as error:
        message = re.sub(r"\s+", " ", str(error))
        raise InputError(f"options of launcher {launcher!r}: {message}", error.field) from error
