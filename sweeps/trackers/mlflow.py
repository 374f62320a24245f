"""MLflow: a run of its own for each run, in an experiment for each grid.

Without `MLFLOW_TRACKING_URI` it is a database in `<runs>/tracking/mlflow`, which
`mlflow ui --backend-store-uri sqlite:///runs/tracking/mlflow/mlflow.db` shows. A further attempt at
a run goes on with what the last one has shown.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sweeps.trackers.choice import Subject

IDENTITY = "dst.run_id"
LONGEST = 500
BATCH = 100


class MLflow:
    """A `sweeps.trackers.choice.Tracker`."""

    def __init__(self, subject: Subject) -> None:
        with _alone(subject.folder):
            self._begin(subject)

    def _begin(self, subject: Subject) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        local = f"sqlite:///{subject.folder / 'mlflow.db'}?timeout=60"
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or local)
        experiment = self._experiment(subject)
        known = self._client.search_runs([experiment], f"tags.`{IDENTITY}` = '{subject.id}'")
        if known:
            self._id = known[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        made = self._client.create_run(experiment, run_name=subject.name)
        self._id = made.info.run_id
        params = [
            Param(_key(name), value if isinstance(value, str) else json.dumps(value)[:LONGEST])
            for name, value in subject.config.items()
        ]
        self._client.set_tag(self._id, IDENTITY, subject.id)
        for start in range(0, len(params), BATCH):
            self._client.log_batch(self._id, params=params[start : start + BATCH])

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Log metrics."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_key(name), float(y), now, step) for name, y in numbers.items()]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(self._id, metrics=metrics[start : start + BATCH])

    def end(self, summary: Mapping[str, float], files: Sequence[Path], failed: bool) -> None:
        """Log final numbers and keep the files."""
        self.log(summary, 0)
        for file in files:
            self._client.log_artifact(self._id, str(file))
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")

    def _experiment(self, subject: Subject) -> str:
        """Return the grid's experiment; others may be about to make it on a server."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(subject.group)
        if found is not None:
            return str(found.experiment_id)
        where = None
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            where = (subject.folder / "artifacts" / subject.group).as_uri()
        try:
            return str(self._client.create_experiment(subject.group, artifact_location=where))
        except MlflowException:
            made = self._client.get_experiment_by_name(subject.group)
            if made is None:
                raise
            return str(made.experiment_id)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other tracker make the database or an experiment meanwhile."""
    with (folder / "lock").open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _key(name: str) -> str:
    """Return a name that MLflow takes."""
    return re.sub(r"[^\w./: -]", "_", name)
