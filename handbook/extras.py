"""The table of optional parts, from `pyproject.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from handbook.tables import code, table

ROOT = Path(__file__).resolve().parents[1]
PLACE = "<!-- extras -->"
"""Where a page wants the table."""


def shown() -> str:
    """Return the table: each extra and the packages that it brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    rows = [(code(name), ", ".join(map(code, wanted))) for name, wanted in extras.items()]
    return table(("extra", "what it brings"), rows)
