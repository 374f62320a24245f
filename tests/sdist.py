"""Source distributions of installed packages, whose own tests run with our models."""

from __future__ import annotations

import subprocess
import sys
import tarfile
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
