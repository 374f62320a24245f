"""The benchmark of recommenders: every case has its contestants, on a small table."""

import pytest

from sweeps.bench import rec
from sweeps.bench.command import Setting


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.delenv("DST_DATA", raising=False)
    for name, value in dict(USERS=30, ITEMS=40, PAIRS=200, SIZE=8, BATCH=16).items():
        monkeypatch.setattr(rec, name, value)


def once(calls):
    for call in calls.values():
        call()
    return dict.fromkeys(calls, 2.0)


@pytest.mark.parametrize(
    ("case", "contestants"),
    [
        ("mf", ["dense", "dense, Adam", "masked", "condensed"]),
        ("graph", ["dense", "condensed"]),
        ("update", ["condensed", "rigl, update"]),
    ],
)
def test_every_case_is_measured(case, contestants):
    (records,) = rec.CASES[case](Setting(1, True, once, 1.0))
    assert [record.contestant for record in records] == contestants
    assert {record.ratio_to_dense for record in records} == {None if case == "update" else 1.0}
    assert (records[0].inputs, records[0].outputs, records[0].batch) == (8, 70, 16)


def test_wrong_words_are_one_line(capsys):
    with pytest.raises(SystemExit) as ending:
        rec.main(["--cases", "als"])
    assert ending.value.code == 2 and capsys.readouterr().err.count("\n") == 1
