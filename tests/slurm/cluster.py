"""A Slurm of one node on this machine, which needs neither root's installation nor a database.

    python -m tests.slurm.cluster COMMAND ...

starts one, runs a command in which `sbatch` and the rest are on the path, and stops it. Debian's
packages are downloaded and unpacked once, into `.cache/slurm` or `$SLURM_CACHE`.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurm-client",
    "slurm-wlm-basic-plugins",
    "libhwloc15",
    "liblua5.1-0",
    "libmunge2",
)
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PATIENCE = 30.0

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
PluginDir={plugins}
PlugStackConfig={state}/plugstack.conf
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/node
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
ReturnToService=2
KillWait=5
MinJobAge=10
MessageTimeout=5
SlurmctldTimeout=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class NoSlurm(Exception):
    """There is no Slurm to be had here, and why."""


class Cluster:
    """A Slurm that runs.

    Attributes:
        environment: Of processes that are to find its commands.
    """

    def __init__(self, programs: Path, state: Path) -> None:
        self._programs = programs
        self._state = state
        libraries = programs / LIBRARIES
        folders = [str(libraries), str(libraries / "slurm-wlm")]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(programs / "usr/bin"), os.environ["PATH"]]),
            "LD_LIBRARY_PATH": os.pathsep.join(folders),
            "SLURM_CONF": str(state / "slurm.conf"),
        }
        self._configure()
        self._controller = self.start_controller()
        stepd = programs / "usr/sbin/slurmstepd-wlm"
        self._node = self._start("slurmd", "-D", "-d", str(stepd), "-N", platform.node())

    def start_controller(self) -> subprocess.Popen[bytes]:
        """Start slurmctld, which goes on with the jobs that an earlier one knew."""
        self._controller = self._start("slurmctld", "-D", "-i")
        return self._controller

    def kill_controller(self) -> None:
        """Kill slurmctld, as a machine that fails would."""
        self._controller.kill()
        self._controller.wait()

    def wait(self) -> None:
        """Return once the node is ready for jobs."""
        deadline = time.monotonic() + PATIENCE
        while "idle" not in self.ask("sinfo", "--noheader", "--format=%T"):
            if time.monotonic() > deadline:
                raise NoSlurm(f"its node does not come up: {self.log()}")
            time.sleep(0.2)

    def ask(self, *command: str) -> str:
        """Return what one of Slurm's commands prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def log(self) -> str:
        """Return the end of what its daemons say."""
        logs = [self._state / "slurmctld.log", self._state / "slurmd.log"]
        return "\n".join(log.read_text()[-2000:] for log in logs if log.exists())

    def stop(self) -> None:
        """End all jobs and both daemons."""
        self.ask("scancel", "--user", getpass.getuser())
        for daemon in (self._node, self._controller):
            daemon.send_signal(signal.SIGTERM)
        for daemon in (self._node, self._controller):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def _configure(self) -> None:
        for folder in ("controller", "node"):
            (self._state / folder).mkdir()
        (self._state / "plugstack.conf").touch()
        text = CONFIGURATION.format(
            host=platform.node(),
            ports=_free_ports(2),
            user=getpass.getuser(),
            plugins=self._programs / LIBRARIES / "slurm-wlm",
            state=self._state,
            cpus=os.cpu_count(),
            memory=1000,
        )
        (self._state / "slurm.conf").write_text(text)

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        program = self._programs / f"usr/sbin/{name}-wlm"
        return subprocess.Popen(
            [str(program), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextlib.contextmanager
def slurm() -> Iterator[Cluster]:
    """Run a Slurm.

    Raises:
        NoSlurm: If its packages are not to be had.
    """
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="slurm-") as state:
        cluster = Cluster(programs, Path(state))
        try:
            cluster.wait()
            yield cluster
        finally:
            cluster.stop()


def _programs() -> Path:
    """Return the folder in which Debian's packages are unpacked."""
    cache = Path(os.environ.get("SLURM_CACHE", ROOT / ".cache/slurm")).absolute()
    programs = cache / "root"
    if programs.is_dir():
        return programs
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise NoSlurm(f"there is no {program}: this is not Debian")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = ["apt-get", "download", "-q", *PACKAGES]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoSlurm(f"apt-get download: {done.stderr.strip().splitlines()[-1]}")
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), f"{folder}/root"], check=True)
        (Path(folder) / "root").rename(programs)
    return programs


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def main() -> int:
    """Run a command beside a Slurm and return its exit code."""
    try:
        with slurm() as cluster:
            return subprocess.run(sys.argv[1:], env=cluster.environment, check=False).returncode
    except NoSlurm as reason:
        print(f"no Slurm: {reason}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
