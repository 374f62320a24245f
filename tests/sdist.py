"""Source distributions of installed packages, whose own tests run with our models."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "sdists"


def unpacked(package: str) -> Path:
    """Return the folder of a package's source distribution, of the installed version.

    It is downloaded from PyPI if it is not there.
    """
    version = metadata.version(package)
    name = f"{package.replace('-', '_')}-{version}"
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        wanted = f"{package}=={version}"
        subprocess.run([*pip, "--no-binary", ":all:", "--dest", str(CACHE), wanted], check=True)
        with tarfile.open(CACHE / f"{name}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return folder


def test_files(package: str) -> list[str]:
    """Return the test files below `tests` in a package's source distribution."""
    folder = unpacked(package) / "tests"
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("test_*.py"))


def run_tests(
    package: str,
    plugin: Path,
    files: Sequence[str],
    arguments: Sequence[str],
    environment: Mapping[str, str],
) -> int:
    """Run a package's tests with a pytest plugin of ours, and return pytest's exit code.

    Args:
        package: The package.
        plugin: The plugin's file.
        files: Test files below `tests` in its source distribution.
        arguments: More arguments of pytest; those that begin with `tests/` choose other files.
        environment: More variables of the environment.
    """
    chosen = [] if any(a.startswith("tests/") for a in arguments) else [f"tests/{f}" for f in files]
    options = ["-p", plugin.stem, "-p", "no:cacheprovider", "-q"]
    path = os.pathsep.join(filter(None, [str(plugin.parent), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", *options, *chosen, *arguments]
    env = os.environ | environment | {"PYTHONPATH": path}
    return subprocess.run(command, cwd=unpacked(package), env=env).returncode
