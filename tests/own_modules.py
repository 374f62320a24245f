"""Modules of the user's own, in a folder outside the repository; a fixture for all tests."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NUMBERS = itertools.count()
OwnModule = Callable[[str], str]


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnModule]:
    """Write a module of the user's own, with `{me}` in its text for its name; returns the name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def write(text: str) -> str:
        names.append(f"own_module_{next(NUMBERS)}")
        (tmp_path / f"{names[-1]}.py").write_text(text.replace("{me}", names[-1]))
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)
