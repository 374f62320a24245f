"""`dst train cl`: folders of images, inferred tasks, and one line where the input is wrong."""

from __future__ import annotations

import json

import pytest

from sweeps.cli import main
from tests.continual.test_images import parted  # noqa: F401


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    monkeypatch.delenv("DST_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def refused(capsys, *words: str) -> str:
    assert main(["train", "cl", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("dst: ") and "\n" not in said
    return said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "--benchmark split-mnist",
            "set DST_DATA (or data) to a folder that holds the files MNIST",
        ),
        ("--benchmark split-cifar10 --data .", "no CIFAR-10 there; expected the files cifar-10"),
        ("--benchmark split-mnist --data nowhere", "must be a folder that exists"),
        ("--benchmark split-folder", "folder=None: must name a folder of images"),
        ("--benchmark split-folder --folder nowhere", "must be a folder of images that exists"),
        ("--benchmark split-folder --folder .", "must hold a folder of images for each class"),
        ("--selector best", "selector='best': must be one of max-confidence, entropy"),
    ],
)
def test_wrong_input_is_one_line(words, expected, capsys):
    assert expected in refused(capsys, *words.split())


def test_classes_that_cannot_be_shared_out_are_wrong_input(capsys, parted):  # noqa: F811
    words = ["--benchmark", "split-folder", "--folder", str(parted), "--tasks", "3"]
    assert "tasks=3: 4 classes cannot be shared out evenly" in refused(capsys, *words)


def test_a_folder_is_learnt_and_inferred_tasks_are_told_apart(capsys, parted):  # noqa: F811
    words = "--benchmark split-folder --tasks 2 --image-size 4 --epochs 2 --hidden 20 --out run"
    words += f" --folder {parted} --selector entropy --sparse.sparsity 0.8 --sparse.update-every 2"
    assert main(["train", "cl", *words.split()]) == 0
    said = capsys.readouterr().out
    assert "final average accuracy (%)" in said
    assert "accuracy, tasks inferred (%)" in said and "tasks inferred right (%)" in said
    result = json.loads((parted / "run" / "result.json").read_text())
    assert result["selector"] == "entropy" and 0 <= result["tasks_found"] <= 1
