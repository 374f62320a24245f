"""The programs of `examples`, shown whole."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = {".py": "python", ".yaml": "yaml"}


def page() -> str:
    """Return a page with a section for each file."""
    parts = ["# Examples\n\nWhole programs, from the folder `examples` of the source distribution."]
    for file in files():
        name = file.relative_to(ROOT).as_posix()
        heading = f"## {name} {{ {anchor(name)} }}"
        shown = file.read_text(encoding="utf-8").rstrip()
        parts.append(f"{heading}\n\n```{LANGUAGES[file.suffix]}\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


def files() -> list[Path]:
    """Return the files that are shown: programs, then folders of modules."""
    found = [path for path in (ROOT / "examples").rglob("*") if path.suffix in LANGUAGES]
    return sorted(found, key=lambda path: (len(path.parts), path))


def anchor(path: str) -> str:
    """Return the anchor of a file or folder of `examples`; empty: that of no other path.

    A folder's is that of its first file.
    """
    inside = [file.relative_to(ROOT).as_posix() for file in files()]
    first = next((name for name in inside if name == path or name.startswith(f"{path}/")), "")
    return f"#{re.sub(r'[^a-z0-9]+', '-', first.lower())}" if first else ""
