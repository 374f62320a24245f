"""Binary files that are whole or absent, with a digest of what they hold."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

MAGIC = b"dstrl-whole-1\n"
DIGEST = 32


def write(path: Path, body: bytes) -> None:
    """Write a file so that a crash leaves it as it was or as it is to be.

    Raises:
        OSError: If it cannot be written; nothing has changed then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(MAGIC + hashlib.sha256(body).digest())
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read(path: Path) -> bytes:
    """Return what was written.

    Raises:
        ValueError: If the file is torn or another's.
        OSError: If it cannot be read.
    """
    raw = path.read_bytes()
    start = len(MAGIC) + DIGEST
    body = raw[start:]
    if raw[:start] != MAGIC + hashlib.sha256(body).digest():
        raise ValueError(f"{path.name} is torn")
    return body
