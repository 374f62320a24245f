"""Files that are whole or absent: written to a temporary neighbour, synced, renamed."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk."""

_HOST = re.sub(r"\W", "-", platform.node()) or "host"


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping in a JSON file, or None if the file is absent or holds no such thing.

    Raises:
        OSError: If it is there and cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write a JSON file atomically, each key on a line of its own; see `write_text`.

    Raises:
        TypeError: If JSON cannot hold the content.
        ValueError: If it has a number that is not finite.
    """
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in content.items()
    ]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n", durable=durable)


def write_text(path: Path, text: str | Iterable[str], *, durable: bool = True) -> None:
    """Write a file so that readers see all of it or what was there before.

    Args:
        path: The file, in a directory that exists.
        text: Its content, whole or piece by piece.
        durable: Whether it must survive a crash of the machine once this returns.

    Raises:
        OSError: If it cannot be written; it names the file and nothing has changed.
    """
    temporary = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.tmp")
    with _naming(path):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines((text,) if isinstance(text, str) else text)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    if durable:
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_left(folder: Path) -> None:
    """Remove what processes of this machine began to write into a folder and were killed over."""
    for left in folder.glob(f".*.{glob.escape(_HOST)}.*.tmp"):
        process = left.name.split(".")[-2]
        if process.isdecimal() and not _lives(int(process)):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def append_line(path: Path, text: str) -> None:
    """Add a line to a file.

    Raises:
        OSError: If it cannot be written; it names the file.
    """
    with _naming(path), path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors of the operating system, which a full disk's do not, name the file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
