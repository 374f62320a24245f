"""The Slurm launcher: each run is a task of an array of jobs, submitted through submitit.

Its settings, all optional: see `Settings`. Which jobs are still in the queue is asked of `squeue`,
which needs no accounting; what came of them, of the store. What jobs read and print lies in
`<runs>/<grid>/slurm` until all is well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sweeps.launchers.choice import settings_of
from sweeps.launchers.engine import drive, need
from sweeps.launchers.errand import Errand, do
from sweeps.launchers.lost import SchedulerLost
from sweeps.launchers.options import Options
from sweeps.store.directory import RunDir

ARRAY = 1000
"""Tasks of one array; Slurm's own limit is 1001 unless it was raised."""

POLL = 3.0
"""Seconds between two looks at the queue."""

PATIENCE = 15.0
SILENCE = 600.0
"""Seconds for which a controller that is started again may be silent."""


@dataclass(frozen=True)
class Settings:
    """What Slurm is told about each run.

    Attributes:
        partition: Where it is queued; None: where the cluster says.
        time: Its limit of time, as sbatch takes it: minutes, or `days-hours:minutes:seconds`.
        memory: Its memory, as sbatch takes it, such as `4G`.
        cpus: Its CPUs; None: as many as it has threads.
        gpus: Its GPUs.
        account: Who pays.
        qos: Quality of service.
        constraint: Features that its node must have.
        setup: Shell commands before it, such as `module load python`.
        extra: Further options of sbatch by their long names.
    """

    partition: str | None = None
    time: str | None = None
    memory: str | None = None
    cpus: int | None = None
    gpus: int = 0
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def flags(self, threads: int) -> dict[str, Any]:
        """Return options of sbatch.

        Args:
            threads: Threads of a run.
        """
        named = {
            "partition": self.partition,
            "time": self.time,
            "mem": self.memory,
            "cpus-per-task": self.cpus or threads,
            "gpus-per-node": self.gpus or None,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
        }
        return {name: value for name, value in named.items() if value is not None} | {
            name.replace("_", "-"): value for name, value in self.extra.items()
        }


def launch(runs: Sequence[RunDir], options: Options, watch: Callable[[], None]) -> None:
    """Bring every run to its end; see `sweeps.launchers.engine.drive`.

    `options.jobs` limits how many tasks of an array run at a time; None leaves that to Slurm.
    """
    need("slurm", "submitit")
    if options.address is not None:
        raise InputError(
            f"address={options.address!r}: launcher 'slurm' takes none, it asks sbatch",
            field="address",
        )
    for program in ("sbatch", "squeue", "scancel", "srun"):
        if shutil.which(program) is None:
            raise InputError(
                f"launcher='slurm': there is no {program} here: run on a machine that submits "
                "jobs to Slurm, or with another launcher",
                field="launcher",
            )
    if (trouble := _ask("sinfo", "--noheader")[1]) is not None:
        raise InputError(f"launcher='slurm': Slurm does not answer: {trouble}", field="launcher")
    drive(_Slurm(options), runs, options, watch)


class _Slurm:
    """Arrays of jobs, and what is left of them in the queue."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings = settings_of("slurm", Settings, options)
        self._out: dict[Any, Errand] = {}
        self._keep = False
        self._next = 0.0
        self._heard = time.monotonic()
        self.limit: int | None = None
        self.logs = ""

    def __enter__(self) -> _Slurm:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self.logs and not self._keep and kind is not SchedulerLost:
            shutil.rmtree(self.logs, ignore_errors=True)
            with contextlib.suppress(OSError):
                Path(self.logs).parent.rmdir()

    def submit(self, errands: Sequence[Errand]) -> None:
        """Send errands out, an array of jobs for each thousand."""
        from submitit import SlurmExecutor

        if not self.logs:
            folder = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
            self.logs = str(Path(errands[0].run).parent / "slurm" / folder)
        executor = SlurmExecutor(self.logs)
        for start in range(0, len(errands), ARRAY):
            part = errands[start : start + ARRAY]
            executor.update_parameters(
                job_name="dst",
                array_parallelism=self._options.jobs or len(part),
                setup=list(self._settings.setup) or None,
                use_srun=False,
                additional_parameters=self._settings.flags(self._options.threads),
            )
            try:
                jobs = executor.map_array(do, part)
            except Exception as error:
                reason = " ".join(str(error).split())
                raise InputError(f"launcher='slurm': sbatch: {reason}", "launcher") from error
            self._out |= dict(zip(jobs, part, strict=True))

    def ended(self) -> list[tuple[Errand, str]]:
        """Return what has left the queue."""
        if time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + POLL
        queued = self._queue()
        through = [] if queued is None else [job for job in self._out if job.job_id not in queued]
        return [(self._out.pop(job), self._said(job)) for job in through]

    def cancel(self) -> None:
        """Take all jobs out of the queue."""
        for number in {_number(job) for job in self._out}:
            _ask("scancel", number)

    def _queue(self) -> set[str] | None:
        """Return the jobs in the queue; None: the controller does not answer for now."""
        numbers = ",".join(sorted({_number(job) for job in self._out}))
        said, trouble = _ask("squeue", "--noheader", "--array", "--format=%i", f"--jobs={numbers}")
        if trouble is not None and "Invalid job id" not in trouble:
            if time.monotonic() > self._heard + SILENCE:
                raise SchedulerLost(f"Slurm does not answer any more: {trouble}")
            return None
        self._heard = time.monotonic()
        return set(said.split()) if trouble is None else set()

    def _said(self, job: Any) -> str:
        """Return what the errand returned; nothing if its job was ended before."""
        from submitit.core.utils import pickle_load

        try:
            outcome, said = pickle_load(job.paths.result_pickle)
        except FileNotFoundError:
            self._keep = True
            return ""
        if outcome == "success":
            return str(said)
        self._keep = True
        return f"job {job.job_id} of Slurm: {str(said).strip().splitlines()[-1]}"


def _number(job: Any) -> str:
    """Return the number of a job, or of the array that it is a task of."""
    return str(job.job_id).partition("_")[0]


def _ask(*command: str) -> tuple[str, str | None]:
    """Return what one of Slurm's programs prints, and in one line why it fails, if it does."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return "", f"{command[0]} has said nothing for {PATIENCE:g} s"
    if done.returncode == 0:
        return done.stdout, None
    return done.stdout, f"{command[0]}: " + (" ".join(done.stderr.split()) or "failed")
