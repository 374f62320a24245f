"""Networks by name: their shapes, exact masks in convolutions, isolation to the bit, errors."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from continual import TaskMasks
from continual.runs.benchmarks import load_tasks
from continual.runs.build import make_model
from continual.runs.networks import image_shape, make_network
from continual.runs.spec import CLSpec
from continual.runs.train import run
from sparse_core.config import SparseConfig
from tests.continual.tiny_tasks import logits

CNN = {"benchmark": "split-digits", "network": "cnn", "channels": (6, 8), "hidden": (24,)}


def tiny(method="rigl", distribution="uniform", **options) -> CLSpec:
    moving = {} if method in ("static", "dense") else {"update_every": 2}
    sparse = SparseConfig(method=method, sparsity=0.85, distribution=distribution, **moving)
    return CLSpec(**{"tasks": 5, "epochs": 2, "sparse": sparse} | CNN | options)


def kinds(network: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in network]


def test_the_cnn_has_two_convolutions_in_each_block():
    network = make_network("cnn", 3 * 32 * 32, 2, (512,), (32, 64))
    block = ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"]
    assert kinds(network) == ["Unflatten", *2 * block, "Flatten", "Linear", "ReLU", "Linear"]
    shapes = [tuple(p.shape) for p in network.parameters() if p.ndim > 1]
    convolutions = [(32, 3, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3)]
    assert shapes == [*convolutions, (512, 64 * 8 * 8), (2, 512)]
    assert network(torch.zeros(2, 3072)).shape == (2, 2)


def test_the_mlp_takes_images_flat():
    network = make_network("mlp", 64, 10, (20, 30), (32, 64))
    assert kinds(network) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert [tuple(layer.weight.shape) for layer in network[::2]] == [(20, 64), (30, 20), (10, 30)]


@pytest.mark.parametrize(
    ("features", "shape"),
    [(64, (1, 8, 8)), (784, (1, 28, 28)), (3072, (3, 32, 32)), (3, (3, 1, 1)), (12, (3, 2, 2))],
)
def test_flat_features_tell_the_image(features, shape):
    assert image_shape(features) == shape


@pytest.mark.parametrize("features", [0, 2, 20, 65])
def test_what_is_no_image_is_refused(features):
    with pytest.raises(ValueError, match=f"^features={features}: convolutions need square"):
        make_network("cnn", features, 2, (8,), (4,))


def test_pixels_keep_their_places():
    """Features are channel by channel, row by row: what images.py makes of a picture."""
    picture = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    network = make_network("cnn", 48, 2, (8,), (4,))
    assert torch.equal(network[0](picture.flatten(1)), picture)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "vgg"}, "network='vgg': must be one of mlp, cnn"),
        ({"channels": (8, 0)}, "channels=0: must be an integer of at least 1"),
        ({"channels": ()}, "channels=(): must name the channels of 1 to 3 blocks"),
        ({"channels": (4, 4, 4, 4)}, "channels=(4, 4, 4, 4): must name the channels of 1 to 3"),
        (
            {"benchmark": "split-folder", "folder": "x", "tasks": 2, "image_size": 3},
            "channels=(6, 8): must name the channels of 1 to 1 blocks, each of which halves the "
            "images of 3 x 3",
        ),
        ({"hidden": ()}, "hidden=(): must name"),
    ],
)
def test_wrong_networks_are_named_in_one_line(values, message):
    with pytest.raises(ValueError) as caught:
        tiny(**values)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_the_sizes_of_images_are_known_before_they_are_loaded():
    sides = {"split-digits": 8, "rotated-mnist": 28, "split-cifar10": 32, "split-cifar100": 32}
    for benchmark, side in sides.items():
        assert CLSpec(benchmark=benchmark, image_size=5).side == side
    assert CLSpec(benchmark="split-tinyimagenet", image_size=64).side == 64


def test_channels_play_no_part_in_an_mlp():
    assert CLSpec(channels=(4,)).canonical() == CLSpec().canonical()
    assert tiny(channels=(4,)).canonical() != tiny().canonical()
    assert tiny(network="mlp", hidden=(24,)).canonical() != tiny().canonical()


def train(spec, model, tasks, labels, lr=0.01):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-2)
    for label in labels:
        model.train()
        model.begin(label)
        model.attach(optimizer, steps=8)
        for rows in torch.arange(len(tasks[label].train_y)).split(32)[:8]:
            optimizer.zero_grad()
            output = model(tasks[label].train_x[rows], label)
            nn.functional.cross_entropy(output, tasks[label].train_y[rows]).backward()
            optimizer.step()
        model.end()


def made(backend, method="rigl", **options):
    spec = tiny(method, **options)
    spec = dataclasses.replace(spec, sparse=dataclasses.replace(spec.sparse, backend=backend))
    tasks = load_tasks(spec.benchmark, spec.tasks)
    torch.manual_seed(0)
    return spec, make_model(spec, tasks[0]), tasks


@pytest.mark.filterwarnings("ignore:Layers that stay masked")
@pytest.mark.parametrize("share", ["none", "reuse", "forward", "all"])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_finished_tasks_answer_as_they_did_to_the_bit(backend, share):
    spec, model, tasks = made(backend, share=share, benchmark="permuted-digits", tasks=3)
    before = []
    for label in range(3):
        train(spec, model, tasks, [label])
        for old, output in enumerate(before):
            assert torch.equal(logits(model, old, tasks[old]), output)
        before.append(logits(model, label, tasks[label]))
    assert model.engine.updates == 6


@pytest.mark.filterwarnings("ignore:Layers that stay masked")
@pytest.mark.parametrize("method", ["static", "rigl", "srigl"])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_masks_of_convolutions_are_disjoint_and_have_their_budgets(backend, method):
    spec, model, tasks = made(backend, method)
    budgets = {tensor.name: tensor.count() for tensor in model.engine.tensors}
    if method != "srigl":  # whose budgets beside each other are multiples of a layer's neurons
        assert sum(budgets.values()) == round(0.15 * (54 + 324 + 432 + 576 + 768 + 48))
    train(spec, model, tasks, range(3))
    masks = [model.masks(label) for label in range(3)]
    assert masks[0]["3.weight"].shape == (6, 6, 3, 3)
    for name, budget in budgets.items():
        of_tasks = [mask[name].flatten(1) for mask in masks]
        for mask in of_tasks:
            live = int(mask.any(1).sum())  # ablation may leave less than a weight for each filter
            if method == "srigl" and name != "14.weight":
                assert set(mask.sum(1).tolist()) - {0} == {budget // live}
            else:
                assert int(mask.sum()) == budget
        if name != "14.weight":  # the head is each task's own
            assert int(sum(mask.int() for mask in of_tasks).max()) == 1


def test_batch_norm_between_convolutions_is_each_tasks_own():
    tasks = load_tasks("split-digits", 5)
    spec = tiny()
    torch.manual_seed(0)
    plain = make_network("cnn", 64, 2, (24,), (6, 8))
    layers = []
    for layer in plain:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    model = TaskMasks(nn.Sequential(*layers), spec.sparse)
    train(spec, model, tasks, [0])
    before, statistics = logits(model, 0, tasks[0]), model.model[2].running_mean.clone()
    train(spec, model, tasks, [1, 2])
    assert not torch.equal(model.model[2].running_mean, statistics)
    assert torch.equal(logits(model, 0, tasks[0]), before)


def test_resnet18_has_its_size_and_normalisation_of_each_tasks_own(tmp_path):
    spec = CLSpec(benchmark="split-cifar10", network="resnet18")
    assert spec.channels == (64, 128, 256, 512)
    with torch.device("meta"):
        net = make_network("resnet18", 3072, 10, (), spec.channels)
    assert sum(parameter.numel() for parameter in net.parameters()) == 11_173_962
    small = dataclasses.replace(tiny("static"), network="resnet18", channels=(4, 8), epochs=1)
    result = run(dataclasses.replace(small, samples=40), tmp_path, lambda done, numbers: None)
    names = [layer["name"] for layer in result["layers"]]
    assert names[0] == "stem.weight" and names[-1] == "head.weight" and result["forgetting"] == 0


def test_a_run_with_convolutions(tmp_path):
    result = run(tiny("srigl", lr=0.01, epochs=6), tmp_path, lambda done, numbers: None)
    assert [layer["name"] for layer in result["layers"]] == [
        f"{place}.weight" for place in (1, 3, 6, 8, 12, 14)
    ]
    assert result["forgetting"] == 0
    assert result["score"] > 0.6  # chance is 0.5
    assert result["flops"]["tasks"][0] < result["flops"]["dense"]


def test_too_many_tasks_for_small_convolutions_are_refused(tmp_path):
    """ERK gives small convolutions most of their weights."""
    with pytest.raises(ValueError, match=r"tasks=5: at sparsity 0.85 only 1 have room"):
        run(tiny(distribution="erk"), tmp_path, lambda done, numbers: None)
