"""How runs are launched, whatever launches them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparse_core.checks import InputError, one_of
from sweeps.runs.provenance import available_cpus

STARTS = ("forkserver", "spawn")


@dataclass(frozen=True)
class Options:
    """How runs are launched.

    Attributes:
        jobs: Runs at a time; None is as many as there are CPUs for, or as the scheduler grants.
        threads: Threads of each run.
        timeout: Seconds after which a run is killed and has failed; None is never.
        retries: How often a run is started again after a signal killed it.
        address: Where the launcher's scheduler is; None: the launcher starts its own.
        settings: The launcher's own settings.
        start: How the process of a run begins, one of `STARTS`; None is `forkserver` where there is
            such a thing, on Linux.
    """

    jobs: int | None = None
    threads: int = 1
    timeout: float | None = None
    retries: int = 1
    address: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"jobs={self.jobs!r}: must be an integer of at least 1", field="jobs")
        if self.threads < 1:
            raise InputError(
                f"threads={self.threads!r}: must be an integer of at least 1", field="threads"
            )
        if self.timeout is not None and not self.timeout > 0:
            raise InputError(
                f"timeout={self.timeout!r}: must be a positive number of seconds", field="timeout"
            )
        if self.retries < 0:
            raise InputError(
                f"retries={self.retries!r}: must be an integer of at least 0", field="retries"
            )

        if self.start is not None:
            one_of("start", self.start, STARTS)

    @property
    def forks(self) -> bool:
        """Whether runs are forked by a server."""
        return sys.platform == "linux" if self.start is None else self.start == "forkserver"

    @property
    def slots(self) -> int:
        """Runs at a time on this machine."""
        return self.jobs or max(1, available_cpus() // self.threads)
