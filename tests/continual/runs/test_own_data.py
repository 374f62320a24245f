"""Data sets and benchmarks of the user's own: what becomes of them, what is refused, and how."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from continual.runs.benchmarks import load_tasks
from continual.runs.spec import CLSpec
from continual.runs.train import run
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sweeps.language.axes import Axes
from sweeps.language.grid import make_run
from sweeps.language.kinds import KINDS
from sweeps.language.spec import run_id
from tests.continual.runs.lab import lab, write_npz  # noqa: F401
from tests.continual.runs.test_images import parted  # noqa: F401

pytestmark = pytest.mark.usefixtures("lab")


def complain(call) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_of_tensors_is_split_by_class():
    tasks = load_tasks("split", 2, dataset="my.npz")
    file = np.load("my.npz")
    for number, task in enumerate(tasks):
        mine = file["train_y"] // 2 == number
        assert task.train_y.tolist() == (file["train_y"][mine] - 2 * number).tolist()
        assert task.train_x.dtype == torch.float32 and task.train_y.dtype == torch.int64
        expected = file["train_x"][mine].reshape(-1, 9).astype("float32")
        assert torch.equal(task.train_x, torch.from_numpy(expected))
        assert set(task.test_y.tolist()) == {0, 1}


@pytest.mark.parametrize("scenario", ["permuted", "rotated"])
def test_scenarios_take_the_same_file(scenario):
    tasks = load_tasks(scenario, 3, seed=2, dataset="my.npz", samples=10)
    assert [task.train_x.shape for task in tasks] == [(10, 9)] * 3
    assert not torch.equal(tasks[0].test_x, tasks[1].test_x)
    if scenario == "permuted":
        assert torch.equal(tasks[0].test_x.sort(1).values, tasks[1].test_x.sort(1).values)


def test_pixels_are_scaled_and_a_fifth_is_held_out(tmp_path):
    x = np.arange(80, dtype=np.uint8).reshape(20, 2, 2)
    np.savez("pixels.npz", x=x, y=np.arange(20, dtype=np.uint8) % 2)
    (task,) = load_tasks("permuted", 1, dataset="pixels.npz")
    assert (len(task.train_y), len(task.test_y)) == (16, 4)
    assert sorted(task.test_y.tolist()) == [0, 0, 1, 1]  # the fifth and tenth of either class
    assert torch.equal(task.test_x[0], torch.arange(32, 36) / 255)  # sample 8


def test_a_function_gives_the_same_as_a_file(lab):  # noqa: F811
    import cllab

    np.savez("same.npz", **cllab.data())
    for one, other in zip(
        load_tasks("permuted", 2, dataset="cllab:data"),
        load_tasks("permuted", 2, dataset="same.npz"),
        strict=True,
    ):
        assert torch.equal(one.train_x, other.train_x) and torch.equal(one.test_y, other.test_y)
    (arrays,) = load_tasks("permuted", 1, dataset="cllab:arrays")
    assert torch.equal(arrays.train_x, load_tasks("permuted", 1, dataset="cllab:data")[0].train_x)


def test_a_folder_is_a_data_set(parted):  # noqa: F811
    one, other = (
        load_tasks("split", 2, dataset=str(parted), size=4),
        load_tasks("split-folder", 2, folder=str(parted), size=4),
    )
    assert all(torch.equal(a.train_x, b.train_x) for a, b in zip(one, other, strict=True))


def test_data_sets_are_found_here_and_below_the_data_folder(tmp_path, monkeypatch):
    (tmp_path / "far").mkdir()
    write_npz(tmp_path / "far" / "other.npz")
    spec = CLSpec(benchmark="split", dataset="other.npz", tasks=2)
    assert "there is no such file here; must be one of digits" in complain(spec.check_data)
    monkeypatch.setenv("DST_DATA", str(tmp_path / "far"))
    spec.check_data()
    assert spec.files() == {"dataset": tmp_path / "far" / "other.npz"}
    assert CLSpec(benchmark="split", dataset="my.npz", tasks=2).files()["dataset"].exists()
    assert CLSpec().files() == {}


def test_a_benchmark_is_a_function_of_tasks_and_seed():
    import cllab

    tasks = load_tasks("cllab:tasks", 2, seed=5, samples=30)
    assert [len(task.train_y) for task in tasks] == [30, 30]
    expected = torch.from_numpy(cllab.arrays(6)[2])
    assert torch.equal(tasks[1].test_x, expected)


def test_a_benchmark_of_avalanche_is_taken_as_it_is():
    theirs = load_tasks("cllab:benchmark", 2, seed=5)
    ours = load_tasks("permuted", 2, seed=5, dataset="cllab:data")
    for one, other in zip(theirs, ours, strict=True):
        for name in ("train_x", "train_y", "test_x", "test_y"):
            assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    "options",
    [
        {"benchmark": "cllab:tasks"},
        {"benchmark": "split", "dataset": "cllab:data"},
        {"benchmark": "rotated", "dataset": "my.npz", "network": "cnn", "channels": (4,)},
    ],
)
def test_runs_on_own_data(options, tmp_path):
    sparse = SparseConfig(method="set", sparsity=0.8, update_every=2, distribution="uniform")
    spec = CLSpec(
        **{"tasks": 2, "epochs": 3, "hidden": (12,), "batch_size": 16} | options, sparse=sparse
    )
    result = run(spec, tmp_path, lambda done, numbers: None)
    assert len(result["accuracy_matrix"]) == 2 and result["forgetting"] == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"test_y": None},
            "has train_x, train_y, test_x: must be a TaskData, a mapping of",
        ),
        ({"train_x": np.zeros(60)}, "train_x is (60,): must be (samples, ...) with at least one"),
        ({"train_x": np.zeros((60, 9), int)}, "train_x is torch.int64: must be floats, or uint8"),
        ({"test_x": np.zeros((20, 4))}, "train_x has 9 features, test_x 4"),
        ({"train_y": np.arange(59) % 4}, "train_y is (59,): must be (samples,) of 60 samples"),
        ({"test_y": np.arange(20.0)}, "test_y is torch.float64: must be integers"),
        ({"train_y": np.arange(60) % 4 - 1}, "train_y has class -1: must not be negative"),
        ({"train_y": np.arange(60) % 4 + 1}, "train_y has no sample of class 0: classes must be"),
        ({"train_y": np.arange(60) % 4 * 2}, "train_y has no sample of class 1: classes must be"),
        ({"test_y": np.arange(20) % 5}, "test_y has class 4: must have some of the 4 classes"),
        ({"train_x": np.full((60, 9), np.nan)}, "train_x has values that are not finite"),
        ({"train_y": np.array(["a"] * 60)}, "train_y is <U1: must be an array of numbers"),
    ],
)
def test_wrong_arrays_are_named_in_one_line(changes, said, tmp_path):
    write_npz(tmp_path / "odd.npz", **changes)
    message = complain(lambda: load_tasks("permuted", 2, dataset="odd.npz"))
    assert message.startswith("dataset='odd.npz': ") and said in message


def test_what_is_no_file_of_tensors_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez("objects.npz", x=np.array([{}], dtype=object))
    for name in ("text.npz", "objects.npz"):
        said = complain(lambda name=name: load_tasks("permuted", 2, dataset=name))
        assert said.startswith(f"dataset='{name}': cannot be read as an .npz: ")


@pytest.mark.parametrize(
    ("benchmark", "said"),
    [
        ("cllab:three_tasks", "tasks=2: benchmark 'cllab:three_tasks' gave 3"),
        ("cllab:global_labels", "task 1: train_y has no sample of class 0: classes must be number"),
        ("cllab:data", "benchmark='cllab:data': takes (), must be a function (tasks, seed) -> an"),
        ("cllab:no_module", "benchmark='cllab:no_module': gave a NoneType, must be a function"),
        ("cllab:nothing", "has no 'nothing'; it must be a function (tasks, seed)"),
    ],
)
def test_what_is_no_benchmark_is_refused_in_one_line(benchmark, said):
    assert said in complain(lambda: load_tasks(benchmark, 2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"benchmark": "split"}, "dataset=None: benchmark 'split' needs one of digits"),
        ({"dataset": "my.npz"}, "dataset='my.npz': is for benchmarks split, permuted, rotated, 'p"),
        ({"benchmark": "cllab:tasks", "dataset": "digits"}, "dataset='digits': is for benchmarks"),
        ({"benchmark": "rotated", "dataset": "cifar10"}, "benchmark 'rotated' needs grey images"),
        ({"benchmark": "split", "dataset": "digits", "tasks": 3}, "tasks=3: must be one of 1, 2"),
        ({"benchmark": "split", "dataset": "folder"}, "folder=None: must name a folder of images"),
    ],
)
def test_specs_say_what_a_benchmark_lacks(options, said):
    assert said in complain(lambda: CLSpec(**options))


def test_colours_cannot_be_rotated(tmp_path):
    write_npz(tmp_path / "rgb.npz", train_x=np.zeros((60, 3, 2, 2)), test_x=np.zeros((20, 3, 2, 2)))
    said = complain(lambda: load_tasks("rotated", 2, dataset="rgb.npz"))
    assert said == "benchmark='rotated': samples have 12 features, must be square, grey images"


def test_classes_of_a_file_that_cannot_be_shared_out():
    said = complain(lambda: load_tasks("split", 3, dataset="my.npz"))
    assert said == "tasks=3: 4 classes cannot be shared out evenly"


def test_tasks_without_test_samples_are_refused(tmp_path):
    write_npz(tmp_path / "half.npz", test_y=np.arange(20) % 2)
    said = complain(lambda: load_tasks("split", 2, dataset="half.npz"))
    assert said == "tasks=2: no test sample is of the classes of task 1"
    assert len(load_tasks("permuted", 2, dataset="half.npz")) == 2


def test_reports_say_which_data_was_learnt():
    own = CLSpec(benchmark="split", dataset="my.npz", tasks=2)
    for spec, task in ((own, "split, my.npz, tasks=2"), (CLSpec(), "permuted-digits, tasks=5")):
        run = make_run("cl", KINDS["cl"], spec)
        assert Axes([run]).task_of(run) == task


def test_two_spellings_of_a_benchmark_are_one_run():
    one = CLSpec(benchmark="split", dataset="digits")
    assert run_id("cl", one) == run_id("cl", CLSpec(benchmark="split-digits"))
    assert run_id("cl", CLSpec(benchmark="permuted", dataset="digits")) == run_id("cl", CLSpec())
