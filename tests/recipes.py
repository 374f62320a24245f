"""The recipes of `CONTRIBUTING.md`, for the tests that follow them."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"


def blocks_of(recipe: str) -> list[str]:
    """Return the blocks of lines that a recipe shows, without their indentation."""
    section = CONTRIBUTING.read_text(encoding="utf-8").split(f"## {recipe}\n")[1]
    blocks = re.findall(r"(?:^ {7}.*\n|^\n)+", section.partition("\n## ")[0], flags=re.MULTILINE)
    return [dedent(block).strip() + "\n" for block in blocks if block.strip()]
