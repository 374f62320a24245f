"""Dask, Ray and Slurm themselves: the same grid through each, with workers and schedulers killed.

Results must equal those of the local launcher to the bit. Each test needs its extra, the last one
also Debian's packages of Slurm (see `tests.slurm.cluster`); `make test-slurm` runs that alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import Cluster, NoSlurm, slurm
from tests.sweeps.launchers.test_local import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

GRID = """
name: both
blocks:
  - kind: rl
    base: {algo: ppo, env: CartPole-v1, steps: 256, eval_every: 128, eval_episodes: 1,
           hyper: {n_steps: 128, n_epochs: 2}, sparse.sparsity: 0.8, sparse.update_every: 2}
    grid: {sparse.method: [static, rigl, srigl]}
    seeds: 2
  - kind: cl
    base: {benchmark: permuted-digits, tasks: 2, epochs: 1, samples: 256, sparse.sparsity: 0.8,
           sparse.update_every: 2}
    grid: {sparse.method: [static, rigl, srigl]}
    seeds: 2
"""
RUNS = 12
PATIENCE = 1200.0


def needs(module: str) -> pytest.MarkDecorator:
    """Skip a test where an extra is not installed."""
    return pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed")


class Store:
    """The runs of the grid in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grid = folder / "both.yaml"
        self.grid.write_text(GRID)
        self._drivers: list[subprocess.Popen[str]] = []

    def driver(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start `dst sweep run`, which Ctrl-C interrupts also where tests run in the background."""
        driver = subprocess.Popen(
            [sys.executable, "-P", "-m", "sweeps.cli", "sweep", "run", str(self.grid), *words],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self._drivers.append(driver)
        return driver

    def close(self) -> None:
        """Stop the drivers that are left."""
        for driver in self._drivers:
            if driver.poll() is None:
                driver.terminate()
            driver.communicate()

    def run(self, *words: str, **environment: str) -> None:
        """Do all runs."""
        ends(self.driver(*words, **environment))

    def results(self) -> dict[str, Any]:
        """Return the results by run, without what may differ between two of the same run."""
        found = {}
        for path in (self.folder / "runs/both").glob("*/result.json"):
            result = json.loads(path.read_text())
            found[path.parent.name] = {k: v for k, v in result.items() if k != "provenance"}
        return found

    def wait_for_results(self, count: int) -> None:
        """Return once so many runs are done."""
        wait_for(lambda: len(self.results()) >= count, PATIENCE)

    def kill_a_run(self) -> None:
        """Kill the process of a run that is going on."""
        kill_one(self._going_on)

    def _going_on(self) -> list[int]:
        files = (self.folder / "runs/both").glob("*/attempts.jsonl")
        ends = [file.read_text().splitlines() for file in files]
        last = [json.loads(lines[-1]) for lines in ends if lines]
        return [one["pid"] for one in last if one["event"] == "start"]

    def attempts(self) -> int:
        """Return how often runs were started."""
        files = (self.folder / "runs/both").glob("*/attempts.jsonl")
        return sum(file.read_text().count('"start"') for file in files)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the local launcher makes of the grid."""
    store = Store(tmp_path_factory.mktemp("local"))
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with contextlib.closing(store):
        driver = store.driver(**environment)
        store.kill_a_run()
        ends(driver)
    results = store.results()
    assert len(results) == RUNS
    assert store.attempts() == RUNS + 1
    return results


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(Store(tmp_path)) as store:
        yield store


def ends(driver: subprocess.Popen[str], code: int | None = 0) -> str:
    """Return what a driver says on stderr when it ends, with this exit code or with an error."""
    out, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == code if code is not None else driver.returncode, out + err
    return err


@contextlib.contextmanager
def started(*command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process and all that it starts while the context lasts."""
    process = subprocess.Popen(
        [*command],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def port() -> int:
    """Return a free port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listens(number: int) -> bool:
    """Return whether somebody listens at a port."""
    try:
        socket.create_connection(("127.0.0.1", number), 1).close()
    except OSError:
        return False
    return True


def processes(*words: str) -> list[int]:
    """Return the processes of this machine whose command line holds all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(word in line for word in words):
                found.append(int(path.parent.name))
    return found


def kill_one(find: Callable[[], list[int]]) -> None:
    """Kill one of the processes that are found."""
    found: list[int] = []
    wait_for(lambda: bool(found.extend(find()) or found), 300)
    os.kill(found[0], signal.SIGKILL)


class Dask:
    """A scheduler and two workers, each a process of its own."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.port = port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        entry = "import sys; from distributed.cli.{0} import main; sys.exit(main())"

        def program(name: str, *words: str) -> subprocess.Popen[bytes]:
            command = (sys.executable, "-P", "-c", entry.format(name), *words)
            return stack.enter_context(started(*command))

        self.scheduler = program(
            "dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"
        )
        wait_for(lambda: listens(self.port), 60)
        worker = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "10")
        self.workers = [program("dask_worker", self.address, *worker) for _ in range(2)]


@needs("distributed")
def test_dask_loses_nothing_with_its_workers_and_its_scheduler(
    store: Store, expected: Mapping[str, Any]
) -> None:
    with contextlib.ExitStack() as stack:
        dask = Dask(stack)
        driver = store.driver("--launcher", "dask", "--address", dask.address)
        store.kill_a_run()
        store.wait_for_results(2)
        dask.workers[0].kill()
        store.wait_for_results(5)
        dask.scheduler.kill()
        assert ends(driver, 1) == (
            f"dst: Dask's scheduler at {dask.address} does not answer any more; the same command "
            "goes on with what is left\n"
        )
    assert len(store.results()) < RUNS
    with contextlib.ExitStack() as stack:
        store.run("--launcher", "dask", "--address", Dask(stack).address)
    assert store.results() == expected


@needs("distributed")
def test_dask_and_the_local_launcher_work_on_one_store(
    store: Store, expected: Mapping[str, Any]
) -> None:
    one = store.driver("--launcher", "dask", "--jobs", "1")
    other = store.driver("--jobs", "1")
    for driver in (one, other):
        ends(driver)
    assert store.results() == expected
    assert store.attempts() == RUNS


@needs("ray")
def test_ray_loses_nothing_with_its_workers_and_its_head(
    store: Store, expected: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_worker_niceness", "0")
    code = "import sys; from ray.scripts.scripts import main; sys.exit(main())"

    def head(number: int) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        words = ("start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats")
        more = (f"--port={number}", "--include-dashboard=false", "--node-ip-address=127.0.0.1")
        return started(sys.executable, "-P", "-c", code, *words, *more)

    first, second = port(), port()
    with head(first):
        wait_for(lambda: listens(first), 120)
        driver = store.driver("--launcher", "ray", "--address", f"127.0.0.1:{first}")
        store.kill_a_run()
        store.wait_for_results(2)
        kill_one(lambda: processes("ray::dst-"))
        store.wait_for_results(5)
        kill_one(lambda: processes("gcs_server", f"--gcs_server_port={first}"))
        ends(driver, None)
    assert len(store.results()) <= RUNS
    with head(second):
        wait_for(lambda: listens(second), 120)
        store.run("--launcher", "ray", "--address", f"127.0.0.1:{second}")
    assert store.results() == expected


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A Slurm of one node."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(slurm())
        except NoSlurm as reason:
            pytest.skip(f"no Slurm: {reason}")


@needs("submitit")
def test_slurm_loses_nothing_with_its_jobs_and_its_controller(
    store: Store, expected: Mapping[str, Any], cluster: Cluster
) -> None:
    (store.folder / "slurm.yaml").write_text("partition: main\ntime: 30:00\nmemory: 100M\n")
    words = ("--launcher", "slurm", "--launcher-options", "slurm.yaml")
    driver = store.driver(*words, **cluster.environment)
    store.kill_a_run()
    store.wait_for_results(2)
    kill_one(lambda: processes("submitit.core._submit", str(store.folder)))
    store.wait_for_results(4)
    cluster.kill_controller()
    time.sleep(3)
    cluster.start_controller()
    ends(driver)
    assert store.results() == expected


@needs("submitit")
def test_slurm_takes_cancelled_jobs_out_of_its_queue(store: Store, cluster: Cluster) -> None:
    driver = store.driver("--launcher", "slurm", **cluster.environment)
    store.wait_for_results(1)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) == 130
    wait_for(lambda: not cluster.ask("squeue", "--noheader").strip())
    assert not list((store.folder / "runs/both").glob(".stop-*"))
    assert not (store.folder / "runs/both/slurm").exists()
    assert 1 <= len(store.results()) < RUNS
