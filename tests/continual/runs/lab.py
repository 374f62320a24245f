"""A module of the user's own beside a data set, in a folder on the path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

CODE = '''
import numpy as np
import torch
from torch import nn

from continual.strategies.recipes import Recipe

careful = Recipe(share="reuse", settings={"method": "set", "growth": "random"})
number = 3


class Net(nn.Module):
    """Two branches of the features, added up before the head."""

    def __init__(self, features, classes, width=16):
        super().__init__()
        self.left, self.right = nn.Linear(features, width), nn.Linear(features, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(torch.relu(self.left(x)) + torch.relu(self.right(x)))


def wrong_head(features, classes):
    return nn.Linear(features, classes + 1)


def wrong_input(features, classes):
    return nn.Linear(features + 1, classes)


def no_module(features, classes):
    return None


def no_arguments():
    return nn.Linear(1, 1)


def momentum(parameters, lr, decay=0.0):
    return torch.optim.SGD(parameters, lr=lr, momentum=0.5, weight_decay=decay)


def strange(model, tasks, matrix):
    assert not model.training
    return {"labels": len(model.labels), "last": matrix[-1][-1]}


def no_numbers(model, tasks, matrix):
    return {"name": "text"}


def arrays(seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(80) % 4
    x = random.normal(size=(80, 9)).astype("float32")
    x[np.arange(80), y] += 4
    return x[:60], y[:60], x[60:], y[60:]


def data():
    return dict(zip(["train_x", "train_y", "test_x", "test_y"], arrays(), strict=True))


def tasks(count, seed):
    return [arrays(seed + task) for task in range(count)]


def three_tasks(count, seed):
    return tasks(3, seed)


def global_labels(count, seed):
    found = []
    for task in range(count):
        train_x, train_y, test_x, test_y = arrays(task)
        found.append((train_x, train_y + 4 * task, test_x, test_y + 4 * task))
    return found


def benchmark(count, seed):
    from continual.runs.benchmarks import as_avalanche, load_tasks
    return as_avalanche(load_tasks("permuted", count, seed, dataset="cllab:data"))
'''


def write_npz(path: Path, **changes: object) -> Path:
    """Write 60 and 20 samples of four classes, images of 3 x 3; None leaves an array out."""
    random = np.random.default_rng(0)
    arrays = {
        "train_x": random.normal(size=(60, 1, 3, 3)),
        "train_y": np.arange(60) % 4,
        "test_x": random.normal(size=(20, 1, 3, 3)),
        "test_y": np.arange(20) % 4,
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder, which is the current one, with `cllab.py` and `my.npz`."""
    monkeypatch.setenv("DST_DATA", "")
    monkeypatch.delenv("DST_DATA")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "cllab.py").write_text(CODE)
    write_npz(tmp_path / "my.npz")
    yield tmp_path
    sys.modules.pop("cllab", None)
