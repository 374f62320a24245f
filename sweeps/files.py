"""Files that are whole or absent: written to a temporary neighbour, synced, renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping in a JSON file, or None if the file is absent or holds no such thing."""
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


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file so that readers see all of it or what was there before.

    Args:
        path: The file, in a directory that exists.
        text: Its content.
        durable: Whether it must survive a crash of the machine once this returns.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
