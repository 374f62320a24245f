"""`dst train cl`: folders of images, inferred tasks, and one line where the input is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeps.cli import main
from tests.continual.runs.test_images import parted  # noqa: F401


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    monkeypatch.delenv("DST_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def refused(capsys, *words: str) -> str:
    before = sorted(Path.cwd().rglob("*"))
    assert main(["train", "cl", *words]) == 2
    assert sorted(Path.cwd().rglob("*")) == before
    out, err = capsys.readouterr()
    said = err.strip()
    assert not out
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
        ("--tasks 30", "tasks=30: at sparsity 0.9 only 7 have room beside each other, then"),
        ("--strategy packnet --tasks 30", "'0.weight' is full; 30 fit with sparse.sparsity=0.97"),
        ("--strategy spacenet --tasks 30", "only 4 are sure to have room beside each other"),
        ("--selector best", "selector='best': must be one of max-confidence, entropy"),
    ],
)
def test_wrong_input_is_one_line(words, expected, capsys):
    assert expected in refused(capsys, *words.split())


@pytest.mark.parametrize(
    ("source", "folder", "expected"),
    [
        ("mnist", "MNIST/raw", "no MNIST there; expected the files MNIST/raw/*-ubyte"),
        ("cifar10", "cifar-10-batches-py", "no CIFAR-10 there; expected the files cifar-10"),
        ("cifar100", "cifar-100-python", "no CIFAR-100 there; expected the files cifar-100"),
        ("tinyimagenet", "tiny-imagenet-200", "no TinyImageNet there; expected the folder tiny"),
    ],
)
def test_data_that_is_cut_short_is_wrong_input(source, folder, expected, capsys):
    Path(folder).mkdir(parents=True)
    for name in ("train", "t10k"):
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
            (Path(folder) / f"{name}-{kind}").write_bytes(b"\0\0\x08\x03\0")
    words = ["--benchmark", f"split-{source}", "--data", "."]
    assert expected in refused(capsys, *words)


def test_a_file_that_is_no_image_is_wrong_input(capsys, parted):  # noqa: F811
    odd = next((parted / "train").rglob("*.png"))
    odd.write_bytes(b"no image")
    words = ["--benchmark", "split-folder", "--folder", str(parted), "--tasks", "2"]
    assert f"image='{odd}': cannot be read as an image" in refused(capsys, *words)


def test_classes_that_cannot_be_shared_out_are_wrong_input(capsys, parted):  # noqa: F811
    words = ["--benchmark", "split-folder", "--folder", str(parted), "--tasks", "3"]
    assert "tasks=3: 4 classes cannot be shared out evenly" in refused(capsys, *words)


def test_a_folder_is_learnt_by_convolutions(capsys, parted):  # noqa: F811
    words = "--benchmark split-folder --tasks 2 --image-size 4 --epochs 2 --hidden 20 --out run"
    words += f" --folder {parted} --network cnn --channels 4 6 --sparse.sparsity 0.8"
    words += " --sparse.distribution uniform --sparse.method static"
    assert main(["train", "cl", *words.split()]) == 0
    assert "final average accuracy, tasks known (%)" in capsys.readouterr().out
    layers = json.loads((parted / "run" / "result.json").read_text())["layers"]
    assert [layer["total"] for layer in layers] == [108, 144, 216, 324, 120, 40]


def test_a_folder_is_learnt_and_inferred_tasks_are_told_apart(capsys, parted):  # noqa: F811
    words = "--benchmark split-folder --tasks 2 --image-size 4 --epochs 2 --hidden 20 --out run"
    words += f" --folder {parted} --selector entropy --batch-size 2"
    words += " --sparse.sparsity 0.8 --sparse.update-every 2"
    assert main(["train", "cl", *words.split()]) == 0
    said = capsys.readouterr().out
    assert "final average accuracy, tasks known (%)" in said
    assert "accuracy, tasks inferred (%)" in said and "tasks inferred right (%)" in said
    result = json.loads((parted / "run" / "result.json").read_text())
    assert result["selector"] == "entropy" and 0 <= result["tasks_found"] <= 1
