"""The Dask launcher: workers of Dask distributed, on this machine or wherever a scheduler has them.

Its settings, all optional: `resources` that a worker must have for each run, such as `{GPU: 1}`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

from sparse_core.checks import InputError
from sweeps.launchers.choice import settings_of
from sweeps.launchers.engine import PATIENCE, drive, knock, need
from sweeps.launchers.errand import Errand, do
from sweeps.launchers.lost import SchedulerLost
from sweeps.launchers.options import Options
from sweeps.store.directory import RunDir


@dataclass(frozen=True)
class Settings:
    """What Dask is told about each run.

    Attributes:
        resources: What of a worker's resources a run takes.
    """

    resources: Mapping[str, float] = field(default_factory=dict)


def launch(runs: Sequence[RunDir], options: Options, watch: Callable[[], None]) -> None:
    """Bring every run to its end; see `sweeps.launchers.engine.drive`."""
    need("dask", "distributed")
    if options.address is not None:
        knock(options.address, "tcp://host:8786")
    drive(_Dask(options), runs, options, watch)


class _Dask:
    """A client, and a cluster of its own if there is no address."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings = settings_of("dask", Settings, options)
        self._out: dict[Any, Errand] = {}
        self._cluster: Any = None
        self.limit = options.jobs if options.address else None
        self.logs = ""

    def __enter__(self) -> _Dask:
        from distributed import Client, LocalCluster

        for name in list(logging.root.manager.loggerDict):
            if name.startswith(("distributed", "tornado")):
                logging.getLogger(name).setLevel(logging.CRITICAL)
        address = self._options.address
        if address is None:
            self._cluster = LocalCluster(
                n_workers=self._options.slots,
                threads_per_worker=1,
                dashboard_address=None,
                memory_limit=0,
                resources=dict(self._settings.resources) or None,
            )
        try:
            self._client: Any = Client(self._cluster or address, timeout=PATIENCE)
        except (TimeoutError, OSError, ValueError) as error:
            raise InputError(
                f"address={address!r}: no Dask scheduler answers there: {error}", field="address"
            ) from error
        self._where = self._client.scheduler.address
        return self

    def __exit__(self, *exception: object) -> None:
        for opened in (self._client, self._cluster):
            if opened is not None:
                opened.close(timeout=PATIENCE)

    def submit(self, errands: Sequence[Errand]) -> None:
        """Send errands out."""
        for errand in errands:
            future = self._client.submit(
                do, errand, pure=False, resources=dict(self._settings.resources) or None
            )
            self._out[future] = errand

    def ended(self) -> list[tuple[Errand, str]]:
        """Return what Dask is through with."""
        if self._client.status == "connecting":
            return []
        if self._client.status != "running":
            raise SchedulerLost(f"Dask's scheduler at {self._where} does not answer any more")
        through = [future for future in self._out if future.done()]
        return [(self._out.pop(future), _said(future)) for future in through]

    def cancel(self) -> None:
        """Begin no further errands."""
        self._client.cancel(list(self._out))


def _said(future: Any) -> str:
    """Return what the errand returned; nothing if its worker died."""
    try:
        if future.status == "finished":
            return str(future.result())
        error = future.exception() if future.status == "error" else None
    except (OSError, CancelledError):  # the scheduler has just gone
        return ""
    if isinstance(error, ImportError):
        return f"a worker of Dask cannot import what runs need: {error}"
    return ""
