"""Briefs: copies of what displays need, which never say anything else than the results."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.files import read_json, write_json
from sweeps.language.grid import Grid
from sweeps.runs import worker
from sweeps.store.brief import NAME, read_brief
from sweeps.store.directory import RunDir, State, prepare

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]


@pytest.fixture
def done(toys: Toys, folders: Folders) -> tuple[RunDir, dict[str, Any]]:
    """A finished run, and what it is."""
    grid = toys("kind: toy")
    (folder,) = folders(grid)
    worker.execute(folder)
    return folder, grid.runs[0].record()


def rewrite(path: Path, content: dict[str, Any]) -> None:
    """Write a file again, as an editor does a moment later."""
    before = path.stat().st_mtime_ns
    write_json(path, content)
    os.utime(path, ns=(before + 10_000_000, before + 10_000_000))


def test_a_glance_shows_what_a_look_shows(
    done: tuple[RunDir, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = done
    result = folder.look().result
    assert result is not None
    monkeypatch.setattr(RunDir, "look", lambda self: pytest.fail("a look"))
    seen = folder.glance()
    assert seen.state is State.DONE and seen.brief is not None
    origin = result["provenance"]
    assert seen.brief.score == result["score"] == 10.0
    assert seen.brief.seconds == origin["wall_s"] + origin["setup_s"]


def test_an_edited_result_counts_and_not_its_brief(done: tuple[RunDir, Any]) -> None:
    folder, _ = done
    rewrite(
        folder.path / "result.json", (read_json(folder.path / "result.json") or {}) | {"score": 3}
    )
    assert read_brief(folder.path) is None
    brief = folder.glance().brief
    assert brief is not None and brief.score == 3


def test_the_result_of_another_spec_is_none_whatever_its_brief_says(
    done: tuple[RunDir, dict[str, Any]],
) -> None:
    folder, record = done
    record["spec"]["task"] = "bridge"
    rewrite(folder.path / "spec.json", record)
    assert folder.glance().state is State.PENDING


@pytest.mark.parametrize("text", ["", "{", "[]", '{"of": null}', None])
def test_without_a_brief_the_result_is_read_and_preparing_writes_it_anew(
    done: tuple[RunDir, dict[str, Any]], text: str | None
) -> None:
    folder, record = done
    brief = folder.glance().brief
    if text is None:
        (folder.path / NAME).unlink()
    else:
        (folder.path / NAME).write_text(text)
    assert folder.glance().brief == brief and read_brief(folder.path) is None
    prepare(folder, record)
    assert read_brief(folder.path) == brief
