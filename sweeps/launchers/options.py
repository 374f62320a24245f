"""How runs are launched, whatever launches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparse_core.checks import InputError
from sweeps.provenance import available_cpus


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
    """

    jobs: int | None = None
    threads: int = 1
    timeout: float | None = None
    retries: int = 1
    address: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

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

    @property
    def slots(self) -> int:
        """Runs at a time on this machine."""
        return self.jobs or max(1, available_cpus() // self.threads)
