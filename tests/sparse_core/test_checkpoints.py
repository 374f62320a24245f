"""Checkpoints: whole or not read, the one before, rings row by row, and what stands in the way."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_core import whole_files
from sparse_core.checkpoints import Checkpoints
from sparse_core.pickling import pickled, set_streams, unpickled
from sparse_core.rings import Ring, Segment


class Buffer:
    """A replay buffer, as far as rings need it."""

    def __init__(self, size):
        self.buffer_size, self.pos = size, 0
        self.rewards = np.zeros(size)
        self.observations = {"a": np.zeros((size, 2), np.float32), "b": np.zeros(size, np.int8)}
        self.note = np.zeros(3)

    def add(self, value):
        self.rewards[self.pos] = value
        self.observations["a"][self.pos] = value, -value
        self.observations["b"][(self.pos + 1) % self.buffer_size] = value % 100
        self.pos = (self.pos + 1) % self.buffer_size


def same(one, other):
    return (
        one.pos == other.pos
        and np.array_equal(one.rewards, other.rewards)
        and all(np.array_equal(one.observations[k], other.observations[k]) for k in "ab")
    )


def test_what_is_kept_comes_back_with_its_random_streams(tmp_path):
    weight = torch.arange(6.0)
    saved = {"weight": weight, "view": weight[2:4], "list": [1]}
    Checkpoints(tmp_path / "c", 0).save(saved)
    drawn = random.random(), np.random.random(), torch.rand(1)
    state = Checkpoints(tmp_path / "c", 0).load()
    state["view"].fill_(9)
    assert state["weight"].tolist() == [0, 1, 9, 9, 4, 5]
    set_streams(state["streams"])
    assert (random.random(), np.random.random(), torch.rand(1)) == drawn


def test_objects_outside_are_stood_for_by_others():
    mine, theirs = object(), object()
    body = pickled({"a": [mine], "b": lambda: mine}, {"it": mine})
    found = unpickled(body, {"it": theirs})
    assert found["a"][0] is found["b"]() is theirs


class FromArguments:
    """Pickles as Gymnasium's EzPickle does: by the arguments of its constructor."""

    def __init__(self):
        self._ezpickle_args, self.position = (), 0

    def __getstate__(self):
        return {"_ezpickle_args": ()}

    def __setstate__(self, state):
        self.__init__()


def test_what_pickles_by_its_arguments_keeps_its_state():
    made = FromArguments()
    made.position = 7
    assert unpickled(pickled([made], {}), {})[0].position == 7


@pytest.mark.parametrize("damage", [lambda body: body[: len(body) // 2], lambda body: b""])
def test_a_checkpoint_cut_off_leaves_the_one_before(tmp_path, capsys, damage):
    checkpoints = Checkpoints(tmp_path, 0)
    for number in range(4):
        checkpoints.save({"number": number})
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["00000003.ckpt", "00000004.ckpt"]
    files[-1].write_bytes(damage(files[-1].read_bytes()))
    again = Checkpoints(tmp_path, 0)
    assert again.load()["number"] == 2
    assert capsys.readouterr().err.splitlines() == [
        "checkpoint 4 is not used: ValueError: 00000004.ckpt is torn",
        "goes on from checkpoint 3",
    ]
    again.save({"number": 9})
    assert Checkpoints(tmp_path, 0).load()["number"] == 9


def test_what_is_of_other_code_is_not_read_but_removed(tmp_path, capsys):
    Checkpoints(tmp_path, 0, "one").save({})
    assert Checkpoints(tmp_path, 0, "other").load() is None
    assert "of other code, or of another run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_the_next_checkpoint_is_tried(tmp_path, capsys, monkeypatch):
    checkpoints = Checkpoints(tmp_path, 0)

    def full(path, body):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sparse_core.checkpoints.write", full)
        checkpoints.save({})
    assert capsys.readouterr().err == "no checkpoint: No space left on device; the run goes on\n"
    assert checkpoints.due() and checkpoints.load() is None
    checkpoints.save({"number": 1})
    assert Checkpoints(tmp_path, 0).load()["number"] == 1


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        whole_files.write(tmp_path / "taken", b"body")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_what_cannot_be_pickled_is_said_once(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path, 0)
    checkpoints.save({"generator": (n for n in range(3))})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no checkpoints: TypeError: cannot pickle 'generator' object")
    assert line.endswith("a run that is stopped begins again from zero")
    assert not checkpoints.due()


def test_it_is_due_after_its_minutes(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("sparse_core.checkpoints.time.monotonic", lambda: now)
    checkpoints = Checkpoints(tmp_path, 2)
    now = 219.0
    assert not checkpoints.due()
    now = 220.0
    assert checkpoints.due()
    checkpoints.save({})
    assert not checkpoints.due()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.lists(st.integers(0, 12), min_size=1, max_size=5), st.data())
def test_a_ring_comes_back_from_the_rows_that_were_new(tmp_path_factory, size, adds, data):
    folder = tmp_path_factory.mktemp("ring")
    checkpoints, buffer, given_rows = Checkpoints(folder, 0), Buffer(size), 0
    for count in adds:
        for _ in range(count):
            given_rows += 1
            buffer.add(given_rows)
        arrays = buffer.rewards, buffer.observations
        checkpoints.save({"buffer": buffer}, ring=Ring(buffer, given_rows))
        assert (buffer.rewards, buffer.observations) == arrays or buffer.rewards is arrays[0]
        if data.draw(st.booleans()):
            checkpoints = Checkpoints(folder, 0)
            buffer = checkpoints.load()["buffer"]
    found = Checkpoints(folder, 0).load()["buffer"]
    assert same(found, buffer)
    assert len(found.note) == 3


def test_rows_are_written_once_and_kept_while_one_of_two_checkpoints_needs_them(tmp_path):
    checkpoints, buffer = Checkpoints(tmp_path, 0), Buffer(10)
    for given_rows in range(1, 31):
        buffer.add(given_rows)
        if given_rows % 3 == 0:
            checkpoints.save({"buffer": buffer}, ring=Ring(buffer, given_rows))
    kept = sorted(int(path.stem) for path in tmp_path.glob("*.rows"))
    assert kept == [6, 7, 8, 9, 10]  # the last 10 rows before row 27, and those before row 30
    ring = Ring(buffer, 30)
    assert ring.segment(11, [Segment(10, 27, 29, 0)]) == Segment(11, 29, 30, 0)


def test_a_buffer_that_begins_anew_is_written_anew(tmp_path):
    checkpoints = Checkpoints(tmp_path, 0)
    first, second = Buffer(4), Buffer(4)
    for value in range(4):
        first.add(value)
        second.add(value + 10)
    checkpoints.save({"buffer": first}, ring=Ring(first, 4))
    checkpoints.save({"buffer": second}, ring=Ring(second, 4, generation=1))
    assert same(Checkpoints(tmp_path, 0).load()["buffer"], second)
