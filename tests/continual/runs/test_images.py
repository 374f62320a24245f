"""Folders of images and the usual data sets, from tiny made-up copies; nothing is downloaded."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from continual.runs.benchmarks import load_tasks, split_image_folder
from continual.runs.data import image_folder
from continual.runs.spec import CLSpec
from sparse_core.checks import InputError

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "grey": (128, 128, 128), "red": (255, 0, 0)}


def paint(folder, colour, count, size=(4, 4)):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", size, colour).save(folder / f"{number}.png")


@pytest.fixture
def parted(tmp_path):
    for name, colour in COLOURS.items():
        paint(tmp_path / "train" / name, colour, 3)
        paint(tmp_path / "test" / name, colour, 2)
    return tmp_path


def test_a_folder_is_split_by_class_with_labels_from_zero(parted):
    tasks = split_image_folder(parted, 2, size=4)
    assert len(tasks) == 2
    for task in tasks:
        assert task.train_y.tolist() == [0, 0, 0, 1, 1, 1]
        assert task.test_y.tolist() == [0, 0, 1, 1]
        assert task.train_x.dtype == torch.float32 and task.train_x.shape == (6, 3 * 4 * 4)
    # alphabetical: blue and green, then grey and red; channels first; (v / 255 - 0.5) / 0.25
    blue = tasks[0].train_x[0].view(3, 16)
    assert torch.equal(blue, torch.tensor([-2.0, -2.0, 2.0]).unsqueeze(1).expand(3, 16))
    assert tasks[1].test_x[0].tolist() == pytest.approx([(128 / 255 - 0.5) / 0.25] * 48, abs=1e-6)


def test_images_are_brought_to_size(tmp_path):
    paint(tmp_path / "train" / "red", COLOURS["red"], 1, size=(9, 5))
    paint(tmp_path / "test" / "red", COLOURS["red"], 1, size=(4, 4))
    images = image_folder(tmp_path, size=4)
    assert torch.equal(images.train_x, images.test_x)


def test_without_a_test_set_every_fifth_image_is_held_out(tmp_path):
    for name, colour in COLOURS.items():
        paint(tmp_path / name, colour, 10)
    images = image_folder(tmp_path, size=4)
    assert torch.bincount(images.train_y).tolist() == [8] * 4
    assert torch.bincount(images.test_y).tolist() == [2] * 4


def complain(call, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_folder_of_images_is_named_in_one_line(tmp_path, parted):
    (tmp_path / "empty").mkdir()
    said = complain(lambda: split_image_folder(tmp_path / "empty", 2))
    assert said.startswith(f"folder='{tmp_path}/empty': must hold a folder of images for each")
    (tmp_path / "file").write_text("x")
    said = complain(lambda: split_image_folder(tmp_path / "file", 2))
    assert said.startswith(f"folder='{tmp_path}/file': must hold")
    (tmp_path / "texts" / "red").mkdir(parents=True)
    (tmp_path / "texts" / "red" / "a.txt").write_text("x")
    said = complain(lambda: split_image_folder(tmp_path / "texts", 2))
    assert said.startswith(f"folder='{tmp_path}/texts': must hold")
    paint(tmp_path / "few" / "red", COLOURS["red"], 4)
    said = complain(lambda: split_image_folder(tmp_path / "few", 1))
    assert "each class needs at least 5 images" in said
    paint(parted / "train" / "white", (255, 255, 255), 1)
    said = complain(lambda: split_image_folder(parted, 1))
    assert "class 'white' is in one of train and test" in said


def test_a_broken_image_is_named(parted):
    (parted / "train" / "red" / "1.png").write_bytes(b"no image")
    said = complain(lambda: split_image_folder(parted, 2))
    assert "train/red/1.png" in said and "cannot be read as an image" in said


def test_classes_that_cannot_be_shared_out(parted):
    said = complain(lambda: split_image_folder(parted, 3))
    assert said == "tasks=3: 4 classes cannot be shared out evenly"


def test_a_spec_finds_its_folder_below_the_data(parted, monkeypatch):
    monkeypatch.setenv("DST_DATA", str(parted.parent))
    spec = CLSpec(benchmark="split-folder", folder=parted.name, tasks=2)
    spec.check_data()
    missing = CLSpec(benchmark="split-folder", folder="nowhere", tasks=2)
    said = complain(missing.check_data, InputError)
    assert said == f"folder='{parted.parent}/nowhere': must be a folder of images that exists"
    assert complain(lambda: CLSpec(benchmark="split-folder")).startswith("folder=None: must name")
    assert complain(lambda: CLSpec(folder="x")).startswith("folder='x': is for")


@pytest.mark.parametrize(
    ("benchmark", "expected"),
    [
        ("split-cifar10", "no CIFAR-10 there; expected the files cifar-10-batches-py"),
        ("split-cifar100", "no CIFAR-100 there; expected the files cifar-100-python"),
        ("split-tinyimagenet", "no TinyImageNet there; expected the folder tiny-imagenet-200"),
        ("rotated-mnist", "no MNIST there; expected the files MNIST/raw"),
    ],
)
def test_missing_data_is_named_before_and_by_loading(benchmark, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("DST_DATA", str(tmp_path))
    assert expected in complain(CLSpec(benchmark=benchmark, tasks=5).check_data, InputError)
    assert expected in complain(lambda: load_tasks(benchmark, 5), InputError)
    folder = {"split-cifar10": "cifar-10-batches-py", "split-cifar100": "cifar-100-python"}
    (tmp_path / folder.get(benchmark, "tiny-imagenet-200")).mkdir()
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    assert expected in complain(lambda: load_tasks(benchmark, 5), InputError)


def test_cifar_through_its_loader(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        pixels = rng.integers(256, size=(20, 3072), dtype=np.uint8)
        pixels[0] = number
        batch = {"data": pixels, "labels": [i % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    tasks = load_tasks("split-cifar10", 5, data=tmp_path)
    assert [len(task.train_y) for task in tasks] == [20] * 5
    assert [set(task.test_y.tolist()) for task in tasks] == [{0, 1}] * 5
    first = tasks[0].train_x[0]
    assert first.shape == (3072,) and torch.equal(first, torch.full((3072,), -2.0))


def test_tiny_imagenet_through_its_loader(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    names = [f"n{number:08d}" for number in range(200)]
    for number, name in enumerate(names):
        paint(root / "train" / name / "images", (number, 0, 0), 1)
    (root / "wnids.txt").write_text("\n".join(names))
    paint(root / "val" / "images", (9, 9, 9), 200)
    lines = [f"{number}.png\t{name}\t0\t0\t3\t3" for number, name in enumerate(names)]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines))
    tasks = load_tasks("split-tinyimagenet", 10, data=tmp_path, size=4)
    assert [len(task.train_y) for task in tasks] == [20] * 10
    assert all(task.train_y.tolist() == list(range(20)) for task in tasks)
    assert tasks[1].train_x[0].view(3, 16)[0, 0] == pytest.approx((20 / 255 - 0.5) / 0.25)


def test_core50_by_sessions(tmp_path):
    for session in range(1, 12):
        for number in range(50):
            colour = (4 * number, 0, session)
            paint(tmp_path / "core50_128x128" / f"s{session}" / f"o{number + 1}", colour, 1)
    tasks = load_tasks("split-core50", 10, data=tmp_path, size=2)
    assert [(len(task.train_y), len(task.test_y)) for task in tasks] == [(40, 15)] * 10
    first = tasks[9].test_x[tasks[9].test_y == 0].view(3, 3, 4)
    blue = (first[:, 2, 0] * 0.25 + 0.5) * 255
    assert blue.round().tolist() == [3, 7, 10]
    red = (tasks[9].train_x[0].view(3, 4)[0, 0] * 0.25 + 0.5) * 255
    assert round(float(red)) == 4 * 45  # the first of objects 46 to 50
    (tmp_path / "core50_128x128" / "s2" / "o7" / "0.png").unlink()
    said = complain(lambda: load_tasks("split-core50", 10, data=tmp_path))
    assert said.endswith("expected the folders core50_128x128/s{1..11}/o{1..50} in it")


def test_cifar10_jpeg_in_five_tasks(cifar10_jpeg):
    tasks = split_image_folder(cifar10_jpeg / "cifar10-jpeg" / "test", 5)
    assert [len(task.train_y) for task in tasks] == [1600] * 5
    assert [len(task.test_y) for task in tasks] == [400] * 5
    assert all(set(task.test_y.tolist()) == {0, 1} for task in tasks)
    assert tasks[0].train_x.shape == (1600, 3072)
