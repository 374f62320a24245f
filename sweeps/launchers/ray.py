"""The Ray launcher: tasks of Ray, on this machine or on the cluster at an address.

Its settings, all optional: `num_cpus` and `num_gpus` of each run, which may be fractions, and
`resources` of the user's own names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sparse_core.checks import InputError
from sweeps.launchers.choice import settings_of
from sweeps.launchers.engine import drive, knock, need
from sweeps.launchers.errand import Errand, do
from sweeps.launchers.lost import SchedulerLost
from sweeps.launchers.options import Options
from sweeps.store.directory import RunDir


@dataclass(frozen=True)
class Settings:
    """What Ray is told about each run.

    Attributes:
        num_cpus: CPUs that a run takes; None: as many as it has threads.
        num_gpus: GPUs that a run takes; Ray sets CUDA_VISIBLE_DEVICES.
        resources: What else of a node's resources a run takes.
    """

    num_cpus: float | None = None
    num_gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)


def launch(runs: Sequence[RunDir], options: Options, watch: Callable[[], None]) -> None:
    """Bring every run to its end; see `sweeps.launchers.engine.drive`."""
    need("ray", "ray")
    if options.address not in (None, "auto"):
        knock(str(options.address), "host:6379")
    drive(_Ray(options), runs, options, watch)


class _Ray:
    """A connection to Ray, and a Ray of its own if there is no address."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings = settings_of("ray", Settings, options)
        self._out: dict[Any, Errand] = {}
        self.limit = options.jobs if options.address else None
        self.logs = ""

    def __enter__(self) -> _Ray:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self._ray: Any = ray
        address = self._options.address
        if address is None:
            here = {"num_cpus": self._options.slots * self._cpus}
            where = {"include_dashboard": False, "address": "local", **here}
        else:
            where = {"address": address}
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **where)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"address={address!r}: no Ray answers there: {reason}", field="address"
            ) from error
        return self

    @property
    def _cpus(self) -> float:
        return self._options.threads if self._settings.num_cpus is None else self._settings.num_cpus

    def __exit__(self, *exception: object) -> None:
        self._ray.shutdown()

    def submit(self, errands: Sequence[Errand]) -> None:
        """Send errands out."""
        remote, settings = self._ray.remote(do), self._settings
        for errand in errands:
            task = remote.options(
                name=errand.name,
                num_cpus=self._cpus,
                num_gpus=settings.num_gpus,
                resources=dict(settings.resources) or None,
                max_retries=0,
            )
            self._out[task.remote(errand)] = errand

    def ended(self) -> list[tuple[Errand, str]]:
        """Return what Ray is through with."""
        out = list(self._out)
        try:
            through, _ = self._ray.wait(out, num_returns=len(out), timeout=0.1)
        except self._ray.exceptions.RaySystemError as error:
            raise SchedulerLost(f"Ray does not answer any more: {error}") from error
        return [(self._out.pop(reference), self._said(reference)) for reference in through]

    def cancel(self) -> None:
        """Begin no further errands."""
        for reference in self._out:
            self._ray.cancel(reference)

    def _said(self, reference: Any) -> str:
        """Return what the errand returned; nothing if its worker died."""
        try:
            return str(self._ray.get(reference))
        except ImportError as error:
            return f"a worker of Ray cannot import what runs need: {error}"
        except self._ray.exceptions.RayError:
            return ""
