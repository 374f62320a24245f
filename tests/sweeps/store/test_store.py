"""The store: every state of a run, and what crashes leave behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparse_core.checks import InputError
from sweeps.files import read_json, write_json
from sweeps.language.grid import Grid, parse
from sweeps.store.directory import RunDir, State, prepare
from sweeps.store.validity import fault_of
from tests.sweeps.toys import KIND, ToySpec, result


def a_run(text: str = "kind: toy") -> Any:
    """Return the one run of a grid."""
    (run,) = parse(f"name: toys\n{KIND}\n{text}").runs
    return run


def a_result(run: Any) -> dict[str, Any]:
    """Return what a worker writes."""
    return {
        **result(run.spec),
        **{key: run.record()[key] for key in ("run_id", "kind", "spec")},
        "provenance": {"wall_s": 1.0},
    }


@pytest.fixture
def run() -> Any:
    return a_run()


@pytest.fixture
def folder(tmp_path: Path, run: Any) -> RunDir:
    place = RunDir(tmp_path / run.run_id)
    prepare(place, run.record())
    return place


HOLD = """
import sys, time
from pathlib import Path
from sweeps.store.directory import RunDir
with RunDir(Path(sys.argv[1])).lock() as taken:
    {extra}
    print(taken, flush=True)
    time.sleep(60)
"""


def holder(folder: RunDir, extra: str = "") -> subprocess.Popen[str]:
    """Start a process that holds the lock, and return when it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(extra=extra), str(folder.path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


@pytest.fixture
def held(folder: RunDir) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder's lock."""
    with holder(folder) as process:
        yield process
        process.kill()


def test_a_run_goes_from_pending_to_done(folder: RunDir, run: Any) -> None:
    assert folder.state() is State.PENDING
    with folder.lock() as taken:
        assert taken
        assert folder.begin() == 1
        assert folder.state() is State.RUNNING
        folder.finish(a_result(run))
    assert folder.state() is State.DONE
    assert folder.result() == a_result(run)
    assert folder.attempts() == 1


def test_a_run_fails_and_is_tried_again(folder: RunDir, run: Any) -> None:
    with folder.lock():
        folder.begin()
        folder.fail({"type": "RuntimeError", "message": "no"})
    assert folder.state() is State.FAILED
    error = folder.error()
    assert error is not None and error["message"] == "no"
    with folder.lock():
        assert folder.begin() == 2
        assert folder.error() is None
        folder.finish(a_result(run))
    assert folder.state() is State.DONE


def test_a_directory_that_does_not_exist_is_pending(tmp_path: Path) -> None:
    assert RunDir(tmp_path / "nothing").state() is State.PENDING
    assert RunDir(tmp_path / "nothing").attempts() == 0
    assert RunDir(tmp_path / "nothing").log_tail() == ""


def corrupted() -> list[tuple[str, Any]]:
    good = a_result(a_run())
    text = json.dumps(good)
    return [
        ("empty", ""),
        ("cut", text[: len(text) // 2]),
        ("binary", b"\xff\xfe\x00"),
        ("not a mapping", "[1, 2]"),
        ("no score", {key: value for key, value in good.items() if key != "score"}),
        ("score is text", {**good, "score": "10"}),
        ("score is true", {**good, "score": True}),
        ("score is NaN", text.replace('"score": 10.0', '"score": NaN')),
        ("curve of triples", {**good, "curve": [[1, 2, 3]]}),
        ("no sparsity", {**good, "sparsity": {}}),
        ("layers without names", {**good, "layers": [{"active": 1, "total": 2}]}),
        ("no provenance", {**good, "provenance": None}),
        ("another run's", {**good, "run_id": "000000000000"}),
        ("of another default", {**good, "spec": {**good["spec"], "rate": 0.5}}),
    ]


@pytest.mark.parametrize(("name", "content"), corrupted(), ids=[name for name, _ in corrupted()])
def test_a_corrupt_result_counts_as_none(folder: RunDir, name: str, content: Any) -> None:
    path = folder.path / "result.json"
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert folder.result() is None
    assert folder.state() is State.PENDING


def test_a_result_from_before_a_field_was_added_or_removed_is_valid(
    folder: RunDir, run: Any
) -> None:
    old = a_result(run)
    old["spec"] = {key: value for key, value in old["spec"].items() if key != "note"} | {"gone": 1}
    write_json(folder.path / "result.json", old)
    assert folder.state() is State.DONE


def test_the_lock_is_exclusive_and_dies_with_its_holder(
    folder: RunDir, held: subprocess.Popen[str]
) -> None:
    assert folder.state() is State.RUNNING
    with folder.lock(patience=0.05) as taken:
        assert not taken
    held.kill()
    held.wait()
    assert folder.state() is State.PENDING
    with folder.lock() as taken:
        assert taken


def test_looking_at_a_run_never_frees_the_lock_of_the_one_who_looks(folder: RunDir) -> None:
    with folder.lock() as taken:
        assert taken and folder.running() and folder.state() is State.RUNNING
        with RunDir(folder.path).lock() as again:
            assert not again
        look = "import sys; from pathlib import Path; from sweeps.store.directory import RunDir;"
        look += "sys.exit(RunDir(Path(sys.argv[1])).running())"
        assert subprocess.run([sys.executable, "-c", look, str(folder.path)]).returncode == 1
    assert not folder.running()


def test_the_lock_is_free_though_a_forked_grandchild_survives(folder: RunDir) -> None:
    extra = "import os; child = os.fork(); (time.sleep(60), os._exit(0)) if not child else None;"
    extra += "print(child, flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(extra=extra), str(folder.path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    try:
        assert process.stdout.readline() == "True\n"
        assert folder.running()
        process.kill()
        process.wait()
        os.kill(grandchild, 0)  # it is alive, with a copy of the descriptor
        assert not folder.running()
        with folder.lock() as taken:
            assert taken
    finally:
        os.kill(grandchild, signal.SIGKILL)
        process.stdout.close()


def test_whoever_waits_gets_the_lock_in_spite_of_onlookers(folder: RunDir) -> None:
    (folder.path / "lock").touch()
    onlooker = multiprocessing.get_context("spawn").Process(target=_look, args=(folder.path,))
    onlooker.start()
    try:
        while not (folder.path / "looking").exists():
            time.sleep(0.01)
        for _ in range(20):
            with folder.lock() as taken:
                assert taken
    finally:
        onlooker.kill()
        onlooker.join()
        onlooker.close()


def _look(path: Path) -> None:
    while True:
        RunDir(path).running()
        (path / "looking").touch()


def test_a_crash_before_the_rename_leaves_no_result_and_is_swept_up(
    folder: RunDir, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from sweeps.files import write_json\n"
        "os.replace = lambda *names: os.kill(os.getpid(), 9)\n"
        "write_json(Path(sys.argv[1]) / 'result.json', {'score': 1})\n"
    )
    crashed = subprocess.run([sys.executable, "-c", program, str(folder.path)])
    assert crashed.returncode == -signal.SIGKILL
    assert len(list(folder.path.glob(".result.json.*.tmp"))) == 1
    assert folder.state() is State.PENDING
    with folder.lock():
        folder.begin()
        assert list(folder.path.glob(".*.tmp")) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": [1, "two"], "b": None})
    for unfit in ({"new": float("nan")}, {"new": object()}):
        with pytest.raises((TypeError, ValueError)):
            write_json(path, unfit)
    assert read_json(path) == {"old": [1, "two"], "b": None}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_a_write_to_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"new": 1})
    assert read_json(path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_each_attempt_has_an_output_folder_of_its_own(folder: RunDir) -> None:
    with folder.lock():
        folder.begin()
        (folder.output / "checkpoint").touch()
        folder.begin()
        assert list(folder.output.iterdir()) == []


def test_preparing_writes_what_the_run_is_once(folder: RunDir, run: Any) -> None:
    before = (folder.path / "spec.json").stat().st_mtime_ns
    prepare(folder, run.record())
    assert (folder.path / "spec.json").stat().st_mtime_ns == before
    assert folder.record() == json.loads(json.dumps(run.record()))
    (folder.path / "spec.json").write_text("{")
    prepare(folder, run.record())
    assert folder.record()["run_id"] == run.run_id


def test_a_folder_of_something_else_is_not_written_to(tmp_path: Path, folder: RunDir) -> None:
    other = a_run("kind: toy\nseeds: [7]")
    with pytest.raises(InputError, match=r"holds another run"):
        prepare(folder, other.record())
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").touch()
    with pytest.raises(InputError, match=r"holds other files"):
        prepare(RunDir(thesis), other.record())
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match=r"cannot be written: (File exists|Not a directory)"):
        prepare(RunDir(file / "run"), other.record())


def test_results_of_runners_are_checked() -> None:
    good = result(ToySpec())
    assert fault_of(good) is None
    for key in good:
        fault = fault_of({name: value for name, value in good.items() if name != key})
        assert fault is not None and fault.startswith(key)


def test_the_log_ends_with_its_last_lines(folder: RunDir) -> None:
    folder.log.write_bytes(b"\n".join(b"%d" % n for n in range(50)) + b"\n\xff")
    assert folder.log_tail(3).splitlines() == ["48", "49", "\ufffd"]


def test_grids_keep_their_runs_apart(
    toys: Callable[[str], Grid], folders: Callable[[Grid], list[RunDir]]
) -> None:
    prepared = folders(toys("kind: toy\nseeds: 3"))
    assert len({folder.path for folder in prepared}) == 3
    assert [folder.record()["spec"]["seed"] for folder in prepared] == [0, 1, 2]
