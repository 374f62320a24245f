"""Which samples are for training, for stopping and for testing, and what is said of odd files."""

from __future__ import annotations

import sys

import pytest
import torch

from sparse_core.checks import InputError
from supervised.data.parts import load_parts
from supervised.data.sources import check, find
from tests.supervised.planted import write


def numbered(path, samples: int = 40) -> None:
    """Write samples, each with a value of its own; every tenth has no label."""
    lines = [f"{samples} 1 5"]
    for i in range(samples):
        lines.append(f"{'' if i % 10 == 9 else i % 5} 0:{i}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def values(samples) -> list[int]:
    return samples.features.values.int().tolist()


def test_one_file_is_split_by_seeds(tmp_path):
    numbered(tmp_path / "xmc" / "set_data.txt")

    def split(**options):
        found = load_parts("set", unlabelled="keep", data=tmp_path, **options)
        return [values(part) for part in (found.train, found.valid, found.test)]

    train, valid, test = split()
    assert [len(train), len(valid), len(test)] == [27, 3, 10]  # 40 / 4, then 30 / 10
    assert sorted(train + valid + test) == list(range(40)) and train == sorted(train)
    assert split() == [train, valid, test]
    other = split(seed=1)
    assert other[2] == test and other[1] != valid
    assert split(split=1)[2] != test
    assert [len(part) for part in split(test_fraction=0.5, valid_fraction=0.5)] == [10, 10, 20]


@pytest.mark.parametrize("name", ["set_{}.txt", "set/{}.txt"])
@pytest.mark.parametrize("folder", ["xmc", "."])
def test_two_files_stay_apart(tmp_path, name, folder):
    write(tmp_path / folder / name.format("train"), 60, seed=0)
    test = write(tmp_path / folder / name.format("test"), 20, seed=1)
    found = load_parts("set", data=tmp_path)
    assert [len(part) for part in (found.train, found.valid, found.test)] == [54, 6, 20]
    assert load_parts("set", data=tmp_path, split=1).test.features.columns.equal(
        found.test.features.columns
    )
    test.write_text(test.read_text().replace("20 30 10", "20 30 11", 1))
    with pytest.raises(InputError, match=r"test.txt': line 1: 11 labels, \w*train.txt has 10"):
        load_parts("set", data=tmp_path)
    test.unlink()
    with pytest.raises(InputError, match=r"train.txt is there, \w*test.txt beside it is not"):
        find("set", tmp_path)


def test_samples_without_labels_are_refused_dropped_or_kept(tmp_path):
    path = tmp_path / "xmc" / "set_data.txt"
    numbered(path)
    with pytest.raises(InputError) as caught:
        load_parts("set", data=tmp_path)
    assert str(caught.value) == (
        f"unlabelled='refuse': {str(path)!r}: line 11: a sample without labels, one of 4; drop or "
        "keep them"
    )
    dropped = load_parts("set", data=tmp_path, unlabelled="drop")
    parts = (dropped.train, dropped.valid, dropped.test)
    assert sorted(i for part in parts for i in values(part)) == [i for i in range(40) if i % 10 < 9]
    assert dropped.without_labels == 4
    assert load_parts("set", data=tmp_path, unlabelled="keep").without_labels == 4
    with pytest.raises(InputError, match="unlabelled='lose': must be one of refuse, drop, keep"):
        load_parts("set", data=tmp_path, unlabelled="lose")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (" 10\n", " 99999999999\n", r"99,999,999,999 labels: must be at most 1,0\d\d,000, for "),
        (" 30 ", " 99999999999 ", "99,999,999,999 features: must be at most "),
    ],
)
def test_counts_that_no_memory_would_hold_are_refused(tmp_path, old, new, fault):
    file = write(tmp_path / "set_data.txt", 20)
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=rf"set_data.txt': line 1: {fault}"):
        load_parts("set", data=tmp_path)


def test_features_that_no_sample_has_are_said(tmp_path):
    """As where indices are counted from 1."""
    path = tmp_path / "set_data.txt"
    path.write_text("4 4 5\n0 1:1\n1 2:1\n2 3:1\n3 1:1\n")
    with pytest.warns(UserWarning) as caught:
        found = load_parts("set", data=tmp_path, valid_fraction=0.4)
    assert str(caught[0].message) == (
        f"data={str(path)!r}: line 1: 1 of 4 features occur in no sample, the first is 0"
    )
    assert found.unused_features == 1


OWN = """
import torch
from supervised import Rows, Samples

def samples(count=8, labels=5):
    begins = torch.arange(count + 1)
    features = Rows(begins, torch.arange(count) % 2, torch.ones(count), 2)
    return Samples(features, Rows(begins, torch.arange(count) % labels, None, labels))

def pair(): return samples(12), samples(3)
def unlike(): return samples(), samples(labels=6)
def bare():
    nothing = torch.zeros(0, dtype=torch.int64)
    return Samples(samples().features, Rows(torch.zeros(9).long(), nothing, None, 5))
def wrong(): return [samples(), 7]
def uneven(): return Samples(samples().features, samples(9).labels)
def plain(): return Samples(samples().labels, samples().labels)
def broken():
    begins = torch.arange(4)
    return samples(), Samples(samples(3).features, Rows(begins, begins[:3] + 3, None, 5))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_samples.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_samples", None)


def test_samples_can_come_from_a_function(own):
    one, two = (load_parts(f"own_samples:{n}", valid_fraction=0.4) for n in ("samples", "pair"))
    assert [len(part) for part in (one.train, one.valid, one.test)] == [4, 2, 2]
    assert [len(part) for part in (two.train, two.valid, two.test)] == [7, 5, 3]
    for name, said in (
        ("unlike", "dataset='own_samples:unlike': its test samples: 6 labels, training samples"),
        ("bare", "unlabelled='refuse': 'own_samples:bare': samples, sample 0: a sample without"),
        ("wrong", "dataset='own_samples:wrong': gave a list, must be a function () -> Samples, or"),
        ("uneven", "dataset='own_samples:uneven': its samples: 8 rows of features, 9 of labels"),
        ("plain", "dataset='own_samples:plain': its samples: features: values must not be None"),
        ("broken", "dataset='own_samples:broken': its test samples: labels: columns must be in"),
        ("none", "dataset='own_samples:none': module 'own_samples' ("),
    ):
        with pytest.raises(InputError) as caught:
            load_parts(f"own_samples:{name}")
        assert str(caught.value).startswith(said)


def test_published_splits_are_taken(tmp_path):
    numbered(tmp_path / "set_data.txt", 12)  # sample 9, the tenth, has no label
    train, test = (tmp_path / f"set_{part}Split.txt" for part in ("tr", "tst"))
    train.write_text("1 12\n3 11\n5 10\n10 9\n12 8\n")
    test.write_text("4 1\n2 2\n")

    def split(split, **options):
        found = load_parts(
            "set", data=tmp_path, split=split, published=True, valid_fraction=0.3, **options
        )
        return sorted(values(found.train) + values(found.valid)), values(found.test)

    assert split(0, unlabelled="drop") == ([0, 2, 4, 11], [3, 1])
    assert split(1, unlabelled="keep") == ([7, 8, 9, 10, 11], [0, 1])
    for text, said in (
        ("4 1\n2\n", f"data={str(test)!r}: line 2: has 1 splits, no split 1"),
        ("4 1\n2 13\n", f"data={str(test)!r}: line 2: '13': must be in 1 to 12"),
        ("4 0\n", f"data={str(test)!r}: line 1: '0': must be in 1 to 12"),
        ("4 9\n", "line 1: sample 9 is in set_trSplit.txt, line 4, already"),
    ):
        test.write_text(text)
        with pytest.raises(InputError) as caught:
            split(1, unlabelled="keep")
        assert said in str(caught.value)
    test.unlink()
    with pytest.raises(InputError, match=r"published=True: set_tstSplit.txt is not beside"):
        split(0, unlabelled="keep")


def test_published_splits_are_for_sets_in_one_file(tmp_path, monkeypatch):
    for name in ("set_train.txt", "set_test.txt"):
        write(tmp_path / name, 20)
    monkeypatch.setenv("DST_DATA", str(tmp_path))
    with pytest.raises(InputError, match="published=True: is for data sets in one file"):
        load_parts("set", published=True)
    with pytest.raises(InputError, match=r"published=True: .*set_test.txt are split already"):
        check("set", published=True)
    check("set", published=False)


def test_parts_without_samples_are_wrong_input(tmp_path):
    numbered(tmp_path / "set_data.txt", 4)
    with pytest.raises(InputError, match=r"valid_fraction=0.1: of 3 samples this is 0; each part"):
        load_parts("set", data=tmp_path)
    with pytest.raises(InputError, match=r"test_fraction=0.9: of 4 samples this is 4; each part"):
        load_parts("set", data=tmp_path, test_fraction=0.9)


def test_missing_data_says_what_is_expected(tmp_path, monkeypatch):
    monkeypatch.delenv("DST_DATA", raising=False)
    with pytest.raises(InputError, match=r"data=None: set DST_DATA .* that holds xmc/set_data.txt"):
        find("set")
    monkeypatch.setenv("DST_DATA", str(tmp_path))
    with pytest.raises(
        InputError, match=r"no data set 'set' there; expected set_data.txt, set_train.txt or"
    ):
        find("set")


def test_the_sets_at_hand_are_what_their_headers_say(xmc):
    found = load_parts("bibtex", data=xmc)
    parts = (found.train, found.valid, found.test)
    assert [len(part) for part in parts] == [4991, 555, 1849]
    assert (found.train.features.width, found.train.labels.width) == (1836, 159)
    assert (found.without_labels, found.unused_features) == (0, 0)
    assert set(torch.cat([part.features.values for part in parts]).tolist()) == {1}
    with pytest.raises(InputError, match=r"line 997: a sample without labels, one of 14"):
        load_parts("delicious", data=xmc)
