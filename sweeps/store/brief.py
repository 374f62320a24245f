"""Briefs: what displays need of a finished run, in a small file beside its result.

A brief is only a copy. It counts as long as result and spec are the files of which it was written;
else the result itself is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.files import read_json, write_json
from sweeps.store.validity import is_number

NAME = "brief.json"


@dataclass(frozen=True)
class Brief:
    """What a display needs of a result.

    Attributes:
        score: Its score.
        seconds: Wall time that the run took, its start included.
    """

    score: float
    seconds: float


def brief_of(result: Mapping[str, Any]) -> Brief:
    """Return what a display needs of a valid result."""
    origin = result["provenance"]
    return Brief(result["score"], origin["wall_s"] + origin.get("setup_s", 0.0))


def write_brief(run: Path, result: Mapping[str, Any]) -> None:
    """Write the brief of a valid result into a run's directory, if that can be written."""
    content = dataclasses.asdict(brief_of(result))
    with contextlib.suppress(OSError):
        write_json(run / NAME, content | {"of": _stamps(run)}, durable=False)


def read_brief(run: Path) -> Brief | None:
    """Return the brief in a run's directory; None if it has none of these very files."""
    try:
        found = read_json(run / NAME)
        if found is None or found.get("of") != _stamps(run):
            return None
    except OSError:
        return None
    score, seconds = found.get("score"), found.get("seconds")
    return Brief(score, seconds) if is_number(score) and is_number(seconds) else None


def _stamps(run: Path) -> list[int]:
    """Return what tells whether result and spec are the same files as before."""
    seen = [(run / name).stat() for name in ("result.json", "spec.json")]
    return [number for stat in seen for number in (stat.st_mtime_ns, stat.st_size)]
