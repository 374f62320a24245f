"""Runs that were stopped between epochs go on from checkpoints and end as they would have."""

from __future__ import annotations

import pytest

from continual.runs import train
from continual.runs.spec import CLSpec
from sparse_core.checkpoints import Checkpoints
from sparse_core.config import SparseConfig


class Stopped(BaseException):
    """A run was killed."""


class Often(Checkpoints):
    """Writes a checkpoint after each epoch, and stops the run at some of them."""

    def __init__(self, folder, stops):
        super().__init__(folder, 0)
        self.stops, self.asked = stops, 0

    def due(self):
        self.asked += 1
        if self.stops and self.asked > self.stops[0]:
            self.stops.pop(0)
            raise Stopped
        return super().due()


def ended(spec, tmp_path, *stops):
    left = list(stops)
    while True:
        try:
            checkpoints = Often(tmp_path / "checkpoint", left)
            return train.run(spec, tmp_path, lambda *told: None, checkpoints)
        except Stopped:
            continue


SMALL = {"tasks": 2, "epochs": 2, "samples": 128, "hidden": (32,)}


@pytest.mark.parametrize(
    ("values", "sparse", "stops"),
    [
        ({"isolation": "hard"}, {"method": "srigl", "backend": "masked"}, (1, 1, 1)),
        ({"isolation": "hard"}, {"method": "rigl", "backend": "condensed"}, (1, 2)),
        ({"isolation": "none"}, {"method": "rigl", "backend": "masked"}, (3,)),
        ({}, {"method": "ticket", "rounds": 1, "dense": ("output",), "backend": "auto"}, (3, 2)),
        ({"baseline": "replay", "replay_samples": 20}, {}, (3,)),
        ({"baseline": "ewc"}, {}, (3,)),
        ({"baseline": "joint"}, {}, (1,)),
        ({"baseline": "independent"}, {}, (1, 2)),
    ],
    ids=["hard", "compiled", "none", "rounds", "replay", "ewc", "joint", "independent"],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, values, sparse, stops):
    config = SparseConfig(**{"sparsity": 0.6, "update_every": 2, **sparse})
    spec = CLSpec(**SMALL | values, sparse=config)
    whole = train.run(spec, tmp_path, lambda *told: None)
    assert ended(spec, tmp_path, *stops) == whole
    assert max(file.stat().st_size for file in (tmp_path / "checkpoint").iterdir()) < 150_000
