"""Pairs of users and items: two forms of files, what is held out, and what is wrong with files."""

import pytest
import torch

from sparse_core.checks import InputError
from supervised.data.interactions import load_interactions
from supervised.data.pair_sources import find_pairs
from supervised.data.pairs import read_pairs


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def listed(rows):
    return [
        row.columns.tolist() for row in (rows.take(torch.tensor([i])) for i in range(len(rows)))
    ]


def test_both_forms_say_the_same(tmp_path):
    (tmp_path / "lists.txt").write_text("0 2 1\n3 0\n")
    (tmp_path / "pairs.txt").write_text("0 2 1\n0 1\n3 0 4.5\n")
    for form in ("lists", "pairs"):
        found = read_pairs(tmp_path / f"{form}.txt", form)
        assert (found.users.tolist(), found.items.tolist()) == ([0, 0, 3], [2, 1, 0])
    assert found.lines.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("lists", "", "line 1: there is no pair of a user and an item"),
        ("lists", "0 1\n\n1 0\n", "line 2: '': an empty line"),
        ("lists", "0 1\n0 2\n", "line 2: user 0 is in line 1 already; form 'pairs' allows that"),
        ("lists", "0 1 -2\n", "line 1: '-2': an item must be a number counted from 0"),
        ("lists", "a 1\n", "line 1: 'a': a user must be a number counted from 0"),
        ("lists", "0 1\n1 4000000000\n", "line 2: item 4000000000: the file has 2 different items"),
        ("lists", "0 1\n70000 1\n", "line 2: user 70000: the file has 2 different users"),
        ("pairs", "0 1 1\n0 1 2 3\n", "line 2: '0 1 2 3': must be a user, an item"),
        ("pairs", "0 1 1\n0 2 0\n", "line 2: '0': a rating must be a number above zero"),
        ("pairs", "0 1 good\n", "line 1: 'good': a rating must be a number above zero"),
    ],
)
def test_broken_files_are_named_with_their_line(form, text, said, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_pairs(path, form)
    assert str(error.value).startswith(f"data={str(path)!r}: {said}")


def test_pairs_are_held_out_and_every_user_keeps_one(tmp_path):
    rows = "".join(f"{u} {' '.join(map(str, range(u % 4 + 1)))}\n" for u in range(40))
    write(tmp_path / "set", train=rows, test="0 5\n39 6\n")
    found = load_interactions("set", valid_fraction=0.6, data=tmp_path)
    assert (found.users, found.items) == (40, 7)
    assert bool((found.train.lengths > 0).all()) and len(found.valid.columns) > 0
    assert found.known.lengths.tolist() == [u % 4 + 1 for u in range(40)]
    assert listed(found.test)[0] == [5] and listed(found.test)[39] == [6]
    again = load_interactions("set", valid_fraction=0.6, data=tmp_path)
    other = load_interactions("set", valid_fraction=0.6, seed=1, data=tmp_path)
    assert torch.equal(found.valid.columns, again.valid.columns)
    assert listed(found.valid) != listed(other.valid)


def test_a_file_of_pairs_held_out_is_taken_as_it_is(tmp_path):
    write(tmp_path / "rec" / "set", train="0 1\n1 2\n", valid="0 2\n", test="1 0\n")
    found = load_interactions("set", data=tmp_path)
    assert (listed(found.train), listed(found.valid)) == ([[1], [2]], [[2], []])
    assert listed(found.known) == [[1, 2], [2]]


def test_pairs_given_again_count_once_and_are_told(tmp_path):
    write(tmp_path / "set", train="0 1\n0 2\n0 1\n", test="0 3\n")
    with pytest.warns(UserWarning, match="1 pairs are given more than once and count once"):
        found = load_interactions("set", form="pairs", valid_fraction=0.9, data=tmp_path)
    assert listed(found.known) == [[1, 2]] and found.duplicates == 1


def test_users_without_training_pairs_are_refused_or_left_out(tmp_path):
    write(tmp_path / "set", train="0 1 2\n2 0 1\n", test="0 0\n1 2\n3 1\n", valid="2 2\n")
    path = tmp_path / "set" / "test.txt"
    with pytest.raises(InputError) as error:
        load_interactions("set", data=tmp_path)
    assert str(error.value) == (
        f"untrained='refuse': data={str(path)!r}: line 2: user 1 has no pair for training, one of "
        "2; skip them"
    )
    found = load_interactions("set", untrained="skip", data=tmp_path)
    assert listed(found.test) == [[0], [], [], []] and found.untrained == 2


def test_a_user_that_has_seen_every_item_is_named(tmp_path):
    write(tmp_path / "set", train="0 1\n1 2 0 1\n", test="0 2\n", valid="0 0\n")
    with pytest.raises(InputError, match=r"train.txt': line 2: user 1 has all 3 items"):
        load_interactions("set", data=tmp_path)


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("DST_DATA", raising=False)
    with pytest.raises(InputError, match=r"data=None: set DST_DATA .* holds set/train.txt"):
        find_pairs("set")
    with pytest.raises(InputError, match=r"no data set 'set' there; expected set/train.txt and"):
        find_pairs("set", tmp_path)
    write(tmp_path / "set", train="0 1\n")
    with pytest.raises(InputError, match=r"train.txt is there, test.txt beside it is not"):
        find_pairs("set", tmp_path)
    with pytest.raises(InputError, match=r"valid_fraction=0.1: of 1 pairs none can be held out"):
        write(tmp_path / "set", test="0 0\n")
        load_interactions("set", data=tmp_path)


def test_functions_of_ones_own(monkeypatch):
    from supervised.data import interactions

    def gave(value):
        monkeypatch.setattr(interactions, "load", lambda *_: lambda: value)
        return load_interactions("lab:pairs", valid_fraction=0.9)

    with pytest.raises(InputError, match="gave a int, must be a function"):
        gave(3)
    train = interactions.Pairs(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.ones(2), "lab")
    test = interactions.Pairs(torch.tensor([0]), torch.tensor([2]), torch.ones(1), "lab")
    assert listed(gave((train, test)).test) == [[2]]
