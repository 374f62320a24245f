"""The local launcher: fresh processes, their environment, and every way for them to die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_core.checks import InputError
from sweeps.language.grid import Grid, parse
from sweeps.launchers import attempts
from sweeps.launchers.environment import numba_cache, worker_environment
from sweeps.launchers.local import launch
from sweeps.launchers.options import Options
from sweeps.runs.provenance import THREAD_VARIABLES, available_cpus
from sweeps.store.directory import RunDir, State
from tests.sweeps.toys import KIND

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]


def quiet() -> None:
    """Watch nothing."""


def alive(pid: int) -> bool:
    """Return whether a process runs; one that is dead but not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_all_runs_are_done_and_then_nothing_is_left_to_do(toys: Toys, folders: Folders) -> None:
    runs = folders(toys("kind: toy\nseeds: 5"))
    launch(runs, Options(jobs=2), quiet)
    assert [run.state() for run in runs] == [State.DONE] * 5
    launch(runs, Options(jobs=2), quiet)
    assert [run.attempts() for run in runs] == [1] * 5


def test_a_run_is_done_once_though_two_launchers_want_it(toys: Toys, folders: Folders) -> None:
    runs = folders(toys("kind: toy\nbase: {seconds: 0.3}\nseeds: 3"))
    launchers = [
        threading.Thread(target=launch, args=(order, Options(jobs=2), quiet))
        for order in (runs, runs[::-1])
    ]
    for launcher in launchers:
        launcher.start()
    for launcher in launchers:
        launcher.join()
    assert [run.state() for run in runs] == [State.DONE] * 3
    assert [run.attempts() for run in runs] == [1] * 3


def test_no_more_runs_at_a_time_than_jobs(toys: Toys, folders: Folders) -> None:
    runs = folders(toys("kind: toy\nbase: {seconds: 0.1}\nseeds: 4"))
    most = 0

    def count() -> None:
        nonlocal most
        most = max(most, sum(run.running() for run in runs))

    launch(runs, Options(jobs=1), count)
    assert most <= 1
    assert all(run.state() is State.DONE for run in runs)


def test_a_killed_worker_is_tried_once_more(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy\nbase: {fate: kill once}"))
    launch([run], Options(), quiet)
    assert run.state() is State.DONE
    assert run.attempts() == 2
    result = run.result()
    assert result is not None and result["provenance"]["attempt"] == 2


@pytest.mark.parametrize("retries", [0, 1])
def test_a_worker_that_is_always_killed_has_failed_and_harms_no_other(
    toys: Toys, folders: Folders, retries: int
) -> None:
    runs = folders(toys("kind: toy\ngrid: {fate: [kill, fine]}"))
    launch(runs, Options(jobs=1, retries=retries), quiet)
    assert [run.state() for run in runs] == [State.FAILED, State.DONE]
    error = runs[0].error()
    assert error is not None and error["message"] == "killed by SIGKILL"
    assert [run.attempts() for run in runs] == [1 + retries, 1]


def test_an_exception_is_recorded_and_not_tried_again_by_itself(
    toys: Toys, folders: Folders
) -> None:
    (run,) = folders(toys("kind: toy\nbase: {fate: raise}"))
    launch([run], Options(retries=3), quiet)
    assert run.state() is State.FAILED
    assert run.attempts() == 1
    error = run.error()
    assert error is not None and error["type"] == "RuntimeError"
    assert "fell over" in run.log_tail()
    launch([run], Options(), quiet)  # but the same command again tries it again
    assert run.attempts() == 2


def test_a_worker_that_leaves_without_a_result_has_failed(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy\nbase: {fate: exit}"))
    launch([run], Options(), quiet)
    error = run.error()
    assert error is not None
    assert error["message"] == "ended with exit code 0 and without a result"


def test_what_a_run_prints_is_in_its_log(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy\nbase: {fate: print}"))
    launch([run], Options(), quiet)
    assert run.log.read_text() == "hello from the runner\n"


def test_a_timeout_kills_the_run_and_all_that_it_has_started(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy\nbase: {fate: hang}"))
    launch([run], Options(timeout=3.0), quiet)
    assert run.state() is State.FAILED
    error = run.error()
    assert error is not None
    assert (error["type"], error["message"]) == ("Timeout", "no result after 3 s")
    assert run.attempts() == 1
    grandchild = int((run.output / "grandchild").read_text())
    wait_for(lambda: not alive(grandchild))


def test_an_interrupt_stops_the_runs_and_they_are_pending_again(
    toys: Toys, folders: Folders
) -> None:
    runs = folders(toys("kind: toy\ngrid: {fate: [hang, fine]}\nseeds: 2"))
    children = [run.output / "grandchild" for run in runs[:2]]

    def interrupt() -> None:
        if all(child.exists() and child.read_text() for child in children):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(runs, Options(jobs=2), interrupt)
    assert [run.state() for run in runs] == [State.PENDING] * 4
    assert [run.attempts() for run in runs] == [1, 1, 0, 0]
    for child in children:
        wait_for(lambda child=child: not alive(int(child.read_text())))


def test_sigterm_is_an_interrupt(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy\nbase: {fate: hang}"))

    def terminate() -> None:
        if run.running():
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        launch([run], Options(), terminate)
    assert run.state() is State.PENDING
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_worker_that_ignores_sigterm_is_killed(
    toys: Toys, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "GRACE", 0.2)
    (run,) = folders(toys("kind: toy"))
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    deaf += "print('deaf', flush=True); time.sleep(60)"
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **how: popen([sys.executable, "-c", deaf], **how)
    )

    def interrupt() -> None:
        if "deaf" in run.log_tail():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch([run], Options(start="spawn"), interrupt)
    assert run.state() is State.PENDING


def test_a_full_disk_stops_the_sweep_and_is_not_blamed_on_a_run(
    toys: Toys, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = folders(toys("kind: toy\nseeds: 2"))

    def full(*arguments: object, **how: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(subprocess, "Popen", full)
    with pytest.raises(OSError, match="No space left"):
        launch(runs, Options(), quiet)
    assert [run.state() for run in runs] == [State.PENDING] * 2


def test_a_worker_whose_driver_is_gone_is_waited_for(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy\nbase: {seconds: 0.6}"))
    orphan = subprocess.Popen([sys.executable, "-m", "sweeps.runs.worker", str(run.path)])
    wait_for(run.running)
    launch([run], Options(), quiet)
    assert run.state() is State.DONE
    assert run.attempts() == 1
    assert orphan.wait() == 0


def test_a_run_whose_orphan_dies_is_taken_over(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy\nbase: {fate: kill once, seconds: 0.3}"))
    orphan = subprocess.Popen([sys.executable, "-m", "sweeps.runs.worker", str(run.path)])
    wait_for(run.running)
    launch([run], Options(retries=0), quiet)
    assert run.state() is State.DONE
    assert run.attempts() == 2
    assert orphan.wait() == -signal.SIGKILL


def test_an_old_error_is_forgotten_before_the_run_starts_again(
    toys: Toys, folders: Folders
) -> None:
    (run,) = folders(toys("kind: toy\nbase: {seconds: 0.3}"))
    run.fail({"type": "RuntimeError", "message": "no"})
    states = set()
    launch([run], Options(), lambda: states.add(run.state()))
    assert State.FAILED not in states
    assert run.state() is State.DONE


def test_workers_get_their_threads_before_python_starts() -> None:
    inherited = {"OMP_NUM_THREADS": "8", "HOME": "/home/me", "PATH": "/bin"}
    environment = worker_environment(2, inherited)
    assert {environment[name] for name in THREAD_VARIABLES} == {"2"}
    for library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        assert environment[f"{library}_NUM_THREADS"] == "2"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["PATH"] == "/bin"
    assert worker_environment(1, {"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_numba_cache_is_named_after_version_and_source_unless_the_user_says_so() -> None:
    assert worker_environment(1, {"NUMBA_CACHE_DIR": "/mine"})["NUMBA_CACHE_DIR"] == "/mine"
    found = Path(worker_environment(1, {"XDG_CACHE_HOME": "/cache"})["NUMBA_CACHE_DIR"])
    assert found == numba_cache({"XDG_CACHE_HOME": "/cache"})
    assert found.parent == Path("/cache/dstrl")
    assert found.name.startswith("numba-")


def test_the_child_really_has_that_environment(folders: Folders) -> None:
    kinds = KIND.replace(
        "tests.sweeps.toys:run", "tests.sweeps.launchers.test_local:show_environment"
    )
    (run,) = folders(parse(f"name: toys\n{kinds}\nkind: toy"))
    launch([run], Options(threads=2), quiet)
    result = run.result()
    assert result is not None
    assert result["seen"]["NUMBA_NUM_THREADS"] == "2"
    assert result["leads_its_group"]
    assert result["provenance"]["threads"] == 2


def show_environment(spec: object, out: Path, progress: object) -> dict[str, object]:
    """Return, as a run's result, what its process looks like."""
    return {
        "score": 0.0,
        "curve": [],
        "sparsity": {"requested": 0.0, "achieved": 0.0},
        "layers": [],
        "seen": dict(os.environ),
        "leads_its_group": os.getpgrp() == os.getpid(),
    }


def test_as_many_runs_at_a_time_as_there_are_cpus_for() -> None:
    assert Options().slots == available_cpus()
    assert Options(threads=10_000).slots == 1
    assert Options(jobs=3).slots == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"jobs": 0}, "jobs=0: must be an integer of at least 1"),
        ({"threads": 0}, "threads=0: must be an integer of at least 1"),
        ({"timeout": 0.0}, "timeout=0.0: must be a positive number of seconds"),
        ({"retries": -1}, "retries=-1: must be an integer of at least 0"),
        ({"start": "fork"}, "start='fork': must be one of forkserver, spawn"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as error:
        Options(**wrong)  # type: ignore[arg-type]
    assert str(error.value) == message
