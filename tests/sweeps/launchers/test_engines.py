"""What Dask, Ray and Slurm have in common, with a tiny engine in their place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sparse_core.checks import InputError
from sweeps.language.grid import Grid
from sweeps.launchers import engine
from sweeps.launchers.choice import LAUNCHERS, find, read_settings, settings_of
from sweeps.launchers.dask import Settings as DaskSettings
from sweeps.launchers.engine import drive, knock, need
from sweeps.launchers.errand import Errand, carried, do, errand
from sweeps.launchers.lost import SchedulerLost
from sweeps.launchers.options import Options
from sweeps.launchers.slurm import Settings as SlurmSettings
from sweeps.store.directory import RunDir, State

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]


def quiet() -> None:
    """Watch nothing."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WATCH", 0.02)


class Threads:
    """An engine with a thread for each errand, some of which it forgets."""

    logs = "the threads' log"

    def __init__(self, limit: int | None = None, forgets: int = 0, says: str = "") -> None:
        self.limit = limit
        self.forgets = forgets
        self.says = says
        self.most = 0
        self.calls: list[str] = []
        self._out: dict[str, tuple[Errand, threading.Thread]] = {}

    def __enter__(self) -> Threads:
        self.calls.append("open")
        return self

    def __exit__(self, *exception: object) -> None:
        self.calls.append("close")

    def submit(self, errands: Sequence[Errand]) -> None:
        for one in errands:
            target: Callable[[Errand], object] = do
            if self.forgets > 0:
                self.forgets -= 1
                target = id
            thread = threading.Thread(target=target, args=(one,))
            thread.start()
            self._out[one.run] = (one, thread)
        self.most = max(self.most, len(self._out))

    def ended(self) -> list[tuple[Errand, str]]:
        through = [one for one, thread in self._out.values() if not thread.is_alive()]
        for one in through:
            del self._out[one.run]
        return [(one, self.says) for one in through]

    def cancel(self) -> None:
        self.calls.append("cancel")


def test_all_runs_are_done_and_then_the_engine_is_not_even_opened(
    toys: Toys, folders: Folders
) -> None:
    runs = folders(toys("kind: toy\nseeds: 4"))
    threads = Threads(limit=2)
    drive(threads, runs, Options(), quiet)
    assert [run.state() for run in runs] == [State.DONE] * 4
    assert threads.most == 2
    assert threads.calls == ["open", "close"]
    again = Threads()
    drive(again, runs, Options(), quiet)
    assert again.calls == []
    assert [run.attempts() for run in runs] == [1] * 4


def test_a_failed_run_is_run_again_and_its_new_error_stands(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy\nbase: {fate: raise}"))
    run.fail({"type": "Lost", "message": "an old one"})
    drive(Threads(), [run], Options(), quiet)
    assert (run.error() or {})["type"] == "RuntimeError"
    assert run.attempts() == 1


def test_an_errand_whose_watcher_died_goes_out_again(toys: Toys, folders: Folders) -> None:
    runs = folders(toys("kind: toy\nseeds: 2"))
    drive(Threads(forgets=1), runs, Options(retries=1), quiet)
    assert [run.state() for run in runs] == [State.DONE] * 2


def test_an_errand_whose_watcher_always_dies_has_failed(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy"))
    drive(Threads(forgets=9), [run], Options(retries=2), quiet)
    error = run.error() or {}
    assert error["type"] == "Lost"
    assert error["message"] == (
        "the process that watched it died in 3 attempts, see the threads' log"
    )


def test_a_machine_that_can_do_no_run_stops_the_sweep(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy"))
    threads = Threads(says="node7 does not see it")
    with pytest.raises(InputError, match="node7 does not see it"):
        drive(threads, [run], Options(), quiet)
    assert threads.calls == ["open", "cancel", "close"]


def test_an_interrupt_stops_the_runs_and_they_are_pending_again(
    toys: Toys, folders: Folders
) -> None:
    runs = folders(toys("kind: toy\nbase: {fate: hang}\nseeds: 2"))
    threads = Threads(limit=1)

    def interrupt() -> None:
        if (runs[0].output / "grandchild").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(threads, runs, Options(), interrupt)
    assert [run.state() for run in runs] == [State.PENDING] * 2
    assert [run.attempts() for run in runs] == [1, 0]
    assert threads.calls == ["open", "cancel", "close"]
    assert not list(runs[0].path.parent.glob(".stop-*"))


def test_a_scheduler_that_is_gone_stops_no_run(toys: Toys, folders: Folders) -> None:
    (run,) = folders(toys("kind: toy\nbase: {seconds: 0.3}"))
    threads = Threads()

    def vanish() -> None:
        if run.running():
            raise SchedulerLost("gone")

    with pytest.raises(SchedulerLost):
        drive(threads, [run], Options(), vanish)
    assert threads.calls == ["open", "close"]
    drive(Threads(), [run], Options(), quiet)
    assert run.state() is State.DONE
    assert run.attempts() == 1


def test_two_engines_work_on_one_store(toys: Toys, folders: Folders) -> None:
    runs = folders(toys("kind: toy\nbase: {seconds: 0.2}\nseeds: 3"))
    drivers = [
        threading.Thread(target=drive, args=(Threads(), order, Options(), quiet))
        for order in (runs, runs[::-1])
    ]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert [run.attempts() for run in runs] == [1] * 3


def test_an_errand_says_where_a_run_is_not_seen(tmp_path: Path) -> None:
    gone = errand(RunDir(tmp_path / "elsewhere"), tmp_path / "stop", Options())
    assert do(gone).endswith("all machines must share the runs' folder")


def test_a_run_has_the_drivers_settings_wherever_it_is_but_no_secrets() -> None:
    environment = {"DST_DATA": "/d", "WANDB_MODE": "offline", "WANDB_API_KEY": "x", "PATH": "/bin"}
    assert carried(environment) == {"DST_DATA": "/d", "WANDB_MODE": "offline"}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_each_launcher_is_found_by_its_name(name: str) -> None:
    assert callable(find(name))


def test_a_launcher_may_come_from_outside() -> None:
    assert find("tests.sweeps.launchers.test_engines:drive_in_threads") is drive_in_threads


def drive_in_threads(runs: Sequence[RunDir], options: Options, watch: Callable[[], None]) -> None:
    """Launch runs in threads."""
    drive(Threads(options.jobs), runs, options, watch)


def test_an_unknown_launcher_is_refused() -> None:
    with pytest.raises(InputError, match="launcher='pbs': must be one of local, dask, ray, slurm"):
        find("pbs")
    with pytest.raises(InputError, match=r"must be a function launch\(runs, options, watch\)"):
        find("os:getpid")


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(InputError, match=r"pip install 'dstrl\[dask\]'"):
        need("dask", "no_such_module")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "address='127.0.0.1:1': nobody answers there: "),
        ("tcp://127.0.0.1:1", "address='tcp://127.0.0.1:1': nobody answers there: "),
        ("localhost", "address='localhost': must be such as tcp://host:8786"),
        (":80", "address=':80': must be such as tcp://host:8786"),
    ],
)
def test_an_address_where_nobody_answers_is_refused(address: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        knock(address, "tcp://host:8786")
    assert str(error.value).startswith(message)


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text("partition: gpu\ntime: 1:30:00\ngpus: 1\nextra: {mail_type: END}\n")
    settings = settings_of("slurm", SlurmSettings, Options(settings=read_settings(path)))
    assert settings.flags(threads=2) == {
        "partition": "gpu",
        "time": "1:30:00",
        "gpus-per-node": 1,
        "cpus-per-task": 2,
        "mail-type": "END",
    }
    assert read_settings(None) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin: gpu", "'slurm': partitoin: unknown key; did you mean 'partition'?"),
        ("gpus: many", "'slurm': gpus='many': must be an integer"),
        ("- gpu", "must be a mapping of settings"),
        ("a: 1\na: 2", "a: given twice"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        settings_of("slurm", SlurmSettings, Options(settings=read_settings(path)))
    assert message in str(error.value)


def test_a_file_of_settings_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.yaml': cannot be read: No such file"):
        read_settings(tmp_path / "no.yaml")


def test_dask_takes_resources_only() -> None:
    options = Options(settings={"resources": {"GPU": 1}})
    assert settings_of("dask", DaskSettings, options).resources == {"GPU": 1.0}
