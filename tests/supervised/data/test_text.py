"""The text format: what is read, and one line with file and line number for all that is wrong."""

from __future__ import annotations

import pytest
import torch

from sparse_core.checks import InputError
from supervised.data.text import read_samples

GOOD = "3 5 4\n0,3 0:1 4:0.5\n 1:-2e1\n2 3:1 2:1\n"


@pytest.fixture
def written(tmp_path):
    def write(text: str):
        path = tmp_path / "data.txt"
        path.write_bytes(text.encode())
        return path

    return write


@pytest.mark.parametrize("text", [GOOD, GOOD.replace("\n", "\r\n"), GOOD.rstrip("\n")])
def test_a_file_is_read(written, text):
    samples = read_samples(written(text))
    assert samples.features.dense().tolist() == [
        [1, 0, 0, 0, 0.5],
        [0, -20, 0, 0, 0],
        [0, 0, 1, 1, 0],
    ]
    assert samples.labels.dense().tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert samples.features.columns.tolist() == [0, 4, 1, 2, 3]
    assert (samples.features.values.dtype, samples.labels.values) == (torch.float32, None)
    assert len(samples.take(torch.tensor([2, 0]))) == 2


def test_a_sample_without_features_is_a_sample(written):
    assert read_samples(written("1 2 2\n1\n")).features.dense().tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "the file is empty; must be the header, three counts: samples features labels"),
        ("\n0 1:1\n", 1, "'': must be the header"),
        ("2 3\n", 1, "'2 3': must be the header"),
        ("2 3 x\n", 1, "'2 3 x': must be the header"),
        ("2 3 -1\n", 1, "must be the header"),
        ("0 3 4\n", 1, "must be the header, three counts: samples features labels, each at least"),
        ("0,3 0:1 4:0.5\n", 1, "'0,3 0:1 4:0.5': must be the header"),
        ("2 3 4\n0 1:1\n", 1, "the header says 2 samples, the file has 1"),
        ("1 3 4\n0 1:1\n0 1:1\n", 3, "'0 1:1': one sample more than the 1 of the header"),
        ("1 3 4\n4 1:1\n", 2, "'4': the header says 4 labels, so a label is below that"),
        ("1 3 4\n0 3:1\n", 2, "'3:1': the header says 3 features, so a feature is below that"),
        ("2 3 4\n0 0:1\n0,-1 0:1\n", 3, "'-1': a label must be a number counted from 0"),
        ("1 3 4\n0, 0:1\n", 2, "'': a label must be a number counted from 0; commas part labels"),
        ("1 3 4\n0,x 0:1\n", 2, "'x': a label must be"),
        ("1 3 4\n0 1 0:1\n", 2, "'1': a feature must be index:value, its index counted from 0"),
        ("1 3 4\n 1,2 0:1\n", 2, "'1,2': a feature must be index:value, its index counted from 0; "
         "the line begins with a space, so it has no labels"),
        ("1 3 4\n0:1 1:1\n", 2, "'0:1 1:1': must begin with labels, or with a space if"),
        ("1 3 4\n0 :1\n", 2, "':1': a feature must be index:value"),
        ("1 3 4\n0 1.5:1\n", 2, "'1.5:1': a feature must be"),
        ("1 3 4\n0 1_0:1\n", 2, "'1_0:1': a feature must be"),
        ("1 3 4\n0 1:\n", 2, "'1:': the value of a feature must be a finite number"),
        ("1 3 4\n0 1:nan\n", 2, "'1:nan': the value of a feature must be a finite number"),
        ("1 3 4\n0 1:1e39\n", 2, "'1:1e39': the value of a feature must be a finite number"),
        ("1 3 4\n0 1:1 2:1 1:2\n", 2, "'1': is given twice among the features of a sample"),
        ("1 3 4\n2,0,2 1:1\n", 2, "'2': is given twice among the labels of a sample"),
        ("2 3 4\n\n0 1:1\n", 2, "'': an empty line; a sample has labels, features or both"),
        ("1 3 4\n0 \u0661:1\n", 2, "a feature must be index:value"),
        ("1 3 4\n" + "9" * 60 + " 1:1\n", 2, "a label must be a number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_its_number(written, text, line, said):
    path = written(text)
    with pytest.raises(InputError) as caught:
        read_samples(path)
    assert str(caught.value).startswith(f"data={str(path)!r}: line {line}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value) and "9" * 41 not in str(caught.value)
    assert caught.value.field == "data"


def test_a_file_that_is_not_there_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match=r"data='.*none.txt': No such file"):
        read_samples(tmp_path / "none.txt")
