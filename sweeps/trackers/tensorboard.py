"""Event files for TensorBoard, written without TensorFlow and without torch.

They lie in `<runs>/tracking/tensorboard/<grid>/<run>`, anew for each attempt.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from sweeps.trackers.choice import Subject


class EventFiles:
    """A `sweeps.trackers.choice.Tracker`."""

    def __init__(self, subject: Subject) -> None:
        folder = subject.folder / subject.group / subject.id
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = EventFileWriter(str(folder))
        if subject.config:
            plain = (bool, int, float, str)
            config = {
                name: value if isinstance(value, plain) else json.dumps(value)
                for name, value in subject.config.items()
            }
            self._add(hparams_pb(config, trial_id=subject.id), 0)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Write scalars."""
        values = [
            Summary.Value(tag=name, simple_value=float(value)) for name, value in numbers.items()
        ]
        self._add(Summary(value=values), step)

    def end(self, summary: Mapping[str, float], files: Sequence[Path], failed: bool) -> None:
        """Write final numbers at step 0; TensorBoard keeps no files."""
        self.log(summary, 0)
        self._writer.close()

    def _add(self, summary: Summary, step: int) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
