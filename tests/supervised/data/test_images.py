"""Images are read from the usual files and from folders; what is wrong with them is one line."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from sparse_core.checks import InputError
from supervised.data import images
from supervised.data.image_files import load_images
from supervised.data.images import Images, InMemory, divided
from tests.supervised.vision.pictures import write


def everything(part) -> torch.Tensor:
    return part.pixels.take(torch.arange(len(part)))


def test_files_of_mnists_form(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, count in (("train", 3), ("t10k", 2)):
        pixels = np.arange(count * 28 * 28) % 256
        header = np.array([2051, count, 28, 28], ">i4").tobytes()
        body = header + pixels.astype(np.uint8).tobytes()
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(body)
        labels = np.array([2049, count], ">i4").tobytes() + bytes(range(count))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(labels)
    train, test = load_images("mnist", data=tmp_path)
    assert train.pixels.shape == (3, 1, 28, 28) and train.labels.tolist() == [0, 1, 2]
    assert everything(train).flatten()[:300].tolist() == [i % 256 for i in range(300)]
    assert len(test) == 2
    file = raw / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="no MNIST there; expected the files MNIST/raw"):
        load_images("mnist", data=tmp_path)


def test_files_of_cifars_form(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, count in (("train", 4), ("test", 2)):
        row = np.arange(3072) % 251
        batch = {b"data": np.stack([row] * count).astype(np.uint8), b"fine_labels": [7] * count}
        (folder / name).write_bytes(pickle.dumps(batch))
    train, test = load_images("cifar100", data=tmp_path)
    assert train.pixels.shape == (4, 3, 32, 32) and test.labels.tolist() == [7, 7]
    # The red plane first, row by row.
    assert everything(train)[0, 1, 0, :2].tolist() == [1024 % 251, 1025 % 251]


def test_a_folder_keeps_every_fifth_image_for_testing(tmp_path):
    train, test = load_images(str(write(tmp_path / "two", size=6)))
    assert train.pixels.shape == (16, 3, 6, 6) and test.labels.tolist() == [0, 0, 1, 1]
    assert everything(test)[:, 0, 0, 0].tolist() == [4, 9, 54, 59]


def test_a_folder_of_two_parts(tmp_path):
    write(tmp_path / "parted" / "train", each=3)
    write(tmp_path / "parted" / "test", each=1)
    train, test = load_images("parted", data=tmp_path)
    assert (len(train), len(test)) == (6, 2)
    (tmp_path / "parted" / "test" / "third").mkdir()
    (tmp_path / "parted" / "test" / "third" / "0.png").touch()
    with pytest.raises(InputError, match="class 'third' is in one of train and test"):
        load_images("parted", data=tmp_path)


def test_images_are_scaled_by_the_shorter_side_and_cut(tmp_path):
    from PIL import Image

    write(tmp_path / "odd", size=8)
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    Image.fromarray(wide).save(tmp_path / "odd" / "class0" / "000.png")
    train, _ = load_images(str(tmp_path / "odd"), size=4)
    assert everything(train)[0].unique().tolist() == [200]


def test_grey_folders_are_grey(tmp_path):
    train, _ = load_images(str(write(tmp_path / "grey", grey=True)))
    assert train.pixels.shape[1] == 1
    write(tmp_path / "mixed", each=5)
    write(tmp_path / "mixed", classes=1, each=1, grey=True)
    with pytest.raises(InputError, match=r"001\.png': is in colour, the first image .* is grey"):
        everything(load_images(str(tmp_path / "mixed"))[0])


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path):
    write(tmp_path / "one", classes=1)
    write(tmp_path / "few", each=3)
    write(tmp_path / "cut", suffix="jpg")
    cut = tmp_path / "cut" / "class1" / "003.jpg"
    cut.write_bytes(cut.read_bytes()[:-40])
    for folder, said in (
        ("one", "one': has one class, 'class0'; must hold a folder of images for each"),
        ("few", "class 'class0' has 3 images, without train/ and test/ each class needs at least"),
        ("none", "dataset='none': there is no such folder here or in .*; must be one of digits"),
    ):
        with pytest.raises(InputError, match=said):
            load_images(folder, data=tmp_path)
    train, _ = load_images("cut", data=tmp_path)
    with pytest.raises(InputError, match=r"class1/003\.jpg': cannot be read as an image: "):
        divided(train, train)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("1", "gave a int, must be a function"),
        ("[np.zeros((2, 3, 4, 4))] * 4", "train_x is .* of torch.float64, must be images"),
        ("[x, np.zeros(2), x, y]", "train_y is .* of torch.float64, must be a class for each"),
        ("[x, y, x[:, :1], y]", "must be of one shape and of the same classes"),
    ],
)
def test_what_a_function_of_ones_own_returns(own_module, returned, said):
    mine = own_module(
        "import numpy as np\nx = np.zeros((2, 3, 4, 4), np.uint8)\ny = np.array([0, 1])\n"
        f"def good(): return x, y, x, y\ndef bad(): return {returned}\n",
    )
    train, _ = load_images(f"{mine}:good")
    assert train.pixels.shape == (2, 3, 4, 4)
    with pytest.raises(InputError, match=said):
        load_images(f"{mine}:bad")


def numbered(count: int) -> Images:
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    return Images(InMemory(pixels), torch.arange(count) % 2)


def test_images_are_drawn_by_the_seed():
    parts = divided(numbered(20), numbered(4), samples=8)
    drawn = everything(parts.train)[:, 0, 0, 0].tolist()
    assert len(set(drawn)) == 8 and drawn == sorted(drawn) and len(parts.test) == 4
    held = divided(numbered(20), numbered(4), samples=8, valid_fraction=0.25)
    both = [everything(part)[:, 0, 0, 0].tolist() for part in (held.train, held.valid)]
    assert len(held.test) == 4 and parts.valid is None
    assert [len(part) for part in both] == [6, 2] and sorted(both[0] + both[1]) == drawn
    other = divided(numbered(20), numbered(4), samples=8, seed=1)
    assert everything(other.train)[:, 0, 0, 0].tolist() != drawn
    with pytest.raises(InputError, match="samples=21: must be at most 20"):
        divided(numbered(20), numbered(4), samples=21)


def test_many_images_stay_in_their_files(tmp_path, monkeypatch):
    train, test = load_images(str(write(tmp_path / "two")))
    held = divided(train, test, samples=5)
    monkeypatch.setattr(images, "MOST_BYTES", 100)
    read = divided(train, test, samples=5)
    assert isinstance(held.train.pixels, InMemory)
    assert not isinstance(read.train.pixels, InMemory)
    assert torch.equal(everything(held.train), everything(read.train))
    assert torch.equal(held.train.labels, read.train.labels)
