"""How fast a run went, and the seconds of its curve's points."""

from __future__ import annotations

import numpy as np
import pytest

from sweeps.store.pace import POINTS, Pace, seconds_at


def test_a_pace_ascends_and_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("sweeps.store.pace.time.process_time", lambda: float(next(clock)))
    pace = Pace()
    for step in range(1001):
        pace.note(step / 1000)
        pace.note(step / 1000)  # the same once more changes nothing
    done, seconds = np.array(pace.points).T
    assert len(done) <= POINTS and done[0] == 0 and done[-1] >= 0.98
    assert (np.diff(done) > 0).all() and (np.diff(seconds) > 0).all()


def test_a_pace_goes_on_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [7.0]
    monkeypatch.setattr("sweeps.store.pace.time.process_time", lambda: now[0])
    first = Pace()
    now[0] = 7.5
    first.note(0.0)
    now[0] = 9.5
    first.note(0.25)
    now[0] = 10.5
    so_far = first.so_far()
    first.note(0.375)  # lost with the process
    now[0] = 100.0  # begins, reads the checkpoint and goes on
    second = Pace()
    second.note(0.0)
    now[0] = 105.0
    second.go_on(*so_far)
    now[0] = 106.5
    second.note(0.5)
    assert second.points == [[0.0, 0.0], [0.25, 2.0], [0.5, 4.5]]


def test_seconds_worked_out_by_hand() -> None:
    origin = {"pace": [[0.0, 0.0], [0.5, 2.0], [1.0, 8.0]]}
    found = seconds_at(np.array([100.0, 200.0, 300.0, 400.0]), origin)
    assert found is not None and found.tolist() == [1.0, 2.0, 5.0, 8.0]


@pytest.mark.parametrize(
    "origin", [{}, {"pace": []}, {"pace": "fast"}, {"pace": [[0.4, 0.0], [1.0, 8.0]]}]
)
def test_seconds_are_not_known_of_a_run_without_a_beginning(origin: dict[str, object]) -> None:
    assert seconds_at(np.array([100.0, 200.0]), origin) is None
    assert seconds_at(np.empty(0), {"pace": [[0.0, 0.0], [1.0, 1.0]]}) is None
