"""Whole runs on small real digits, from a spec and from the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from supervised.vision import build
from supervised.vision.build import load_weights, make_model
from supervised.vision.spec import VisionSpec
from supervised.vision.train import run
from sweeps.cli import main
from sweeps.store.validity import fault_of
from tests.continual.runs.test_resuming import Often, Stopped
from tests.supervised.vision.pictures import write


def spec(method="rigl", backend="masked", **options) -> VisionSpec:
    moving = {} if method in ("static", "dense") else {"update_every": 2}
    sparse = SparseConfig(method=method, sparsity=0.5, backend=backend, **moving)
    small = {"dataset": "digits", "width": 4, "epochs": 2, "samples": 320, "batch_size": 32}
    return VisionSpec(sparse=sparse, **small | options)


def result_of(spec, folder):
    return run(spec, folder, lambda *told: None)


def test_a_result_holds_what_was_promised(tmp_path):
    reports = []
    result = run(spec(ema=0.9), tmp_path, lambda done, numbers: reports.append((done, numbers)))
    assert json.loads(json.dumps(result)) == result and fault_of(result) is None
    assert result["images"] == {"train": 320, "test": 360}
    assert [epoch for epoch, _ in result["curve"]] == [1, 2] and len(result["losses"]) == 2
    assert result["score"] == result["curve"][-1][1] <= result["top5"]
    assert 0 <= result["unaveraged"] <= 1
    assert result["updates"] == {"network": 7} and result["still"] == []  # steps 2 to 14 of 20
    layers = {layer["name"]: layer for layer in result["layers"]}
    assert layers["stage2_1.first.weight"]["neurons"] == 8 and "head.weight" in layers
    assert reports[-1][0] == 1.0 and "accuracy" in reports[-1][1]


def test_the_weights_that_a_run_leaves_are_those_of_a_dense_network(tmp_path):
    asked = spec(epochs=1)
    result = result_of(asked, tmp_path)
    file = tmp_path / "weights.pt"
    dense = replace(asked, sparse=SparseConfig(method="dense", sparsity=0.0))
    model, _ = make_model(replace(dense, weights=str(file)), (1, 8, 8), 10)
    assert sum(int((p != 0).sum()) for n, p in model.named_parameters() if n == "stem.weight") == (
        next(layer["active"] for layer in result["layers"] if layer["name"] == "stem.weight")
    )
    with pytest.raises(InputError, match=r"is of another network: 'stem.weight' is \(4, 1, 3, 3\)"):
        make_model(replace(dense, weights=str(file), width=5), (1, 8, 8), 10)
    with pytest.raises(InputError, match=r"is of another network: the file has no 'hidden1\.w"):
        make_model(replace(dense, weights=str(file), network="mlp"), (1, 8, 8), 10)
    (tmp_path / "empty.pt").write_bytes(b"no weights")
    with pytest.raises(
        InputError, match=r"empty.pt': cannot be read: must be a file of torch.save"
    ):
        load_weights(model, tmp_path / "empty.pt", "resnet8")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(InputError, match=r"list.pt': holds no state of a network"):
        load_weights(model, tmp_path / "list.pt", "resnet8")


@pytest.mark.parametrize(
    ("method", "options"),
    [("srigl", {"ema": 0.9}), ("rigl", {"augment": ("crop", "flip"), "label_smoothing": 0.1})],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, method, options):
    asked = spec(method, samples=128, **options)
    whole = result_of(asked, tmp_path)
    stops = [2, 5]
    while True:
        try:
            checkpoints = Often(tmp_path / "checkpoint", stops)
            found = run(asked, tmp_path, lambda *told: None, checkpoints)
            break
        except Stopped:
            continue
    assert not stops and found == whole
    assert result_of(replace(asked, seed=1), tmp_path)["losses"] != whole["losses"]


def test_settings_are_chosen_on_images_held_out(tmp_path):
    result = result_of(spec("dense", valid_fraction=0.25, epochs=1), tmp_path)
    assert result["images"] == {"train": 240, "valid": 80, "test": 360}
    assert result["valid_score"] == result["curve"][-1][1]


def test_corrupted_images_are_measured_in_the_end(tmp_path):
    asked = spec("static", epochs=1, corruptions=("contrast", "pixelate"), corruption_images=50)
    result = result_of(asked, tmp_path)
    assert [len(scores) for scores in result["corrupted"].values()] == [5, 5]
    every = [score for scores in result["corrupted"].values() for score in scores]
    assert result["corrupted_accuracy"] == pytest.approx(sum(every) / 10)


def test_mixed_precision_is_for_devices_that_have_it(tmp_path, monkeypatch):
    asked = spec("static", network="mlp", width=16, epochs=1, precision="mixed")
    if build.has_bfloat16("cpu"):
        assert 0 < result_of(asked, tmp_path)["losses"][0] < 3
    monkeypatch.setattr(build, "has_bfloat16", lambda device: False)
    with pytest.raises(InputError, match="precision='mixed': this cpu has no arithmetic"):
        result_of(asked, tmp_path)


def test_what_only_the_data_can_tell_is_one_line(tmp_path):
    folder = write(tmp_path / "grey", grey=True, each=5, size=6)
    for options, said in (
        (
            dict(network="resnet50"),
            "network='resnet50': takes colour images, those of '.*' are g",
        ),
        (dict(network="vit_tiny"), "patches of 4 x 4, which do not divide the 6 x 6 of"),
        (dict(batch_size=9), "batch_size=9: must be at most 8, the images for training"),
        (dict(device="cuda"), "device='cuda': torch sees no GPU here, use cpu"),
    ):
        if options.get("device") == "cuda" and torch.cuda.is_available():
            continue
        asked = replace(spec(), dataset=str(folder), samples=None, width=None, batch_size=4)
        with pytest.raises(InputError, match=said):
            result_of(replace(asked, **options), tmp_path)


def test_the_command_line_says_what_came_out(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "train vision --dataset digits --network mlp --width 16 --depth 1 --epochs 1 --out run"
    assert main([*words.split(), "--sparse.method", "static", "--sparse.backend", "masked"]) == 0
    said = capsys.readouterr().out
    for heading in ("accuracy (%)", "top-5 accuracy (%)", "sparsity"):
        assert heading in said
    assert (tmp_path / "run" / "output" / "weights.pt").is_file()
    assert main(["train", "vision", "--network", "mlp", "--data", "."]) == 2
    err = capsys.readouterr().err
    assert err == (
        f"dst: data={str(tmp_path)!r}: no CIFAR-10 (JPEG q75) there; expected the folders "
        "cifar10-jpeg/{train,test}/CLASS in it\n"
    )
