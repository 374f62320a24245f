"""Augmentation, learning rates, averages and networks, by numbers that can be checked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sparse_core.config import SparseConfig
from supervised.vision.augment import Scale, augmented
from supervised.vision.averaging import averaged, with_average
from supervised.vision.build import make_model
from supervised.vision.catalogue import NETWORKS
from supervised.vision.learning_rate import learning_rate
from supervised.vision.spec import VisionSpec


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_crop_is_a_window_of_the_image_with_zeros_around():
    image = torch.arange(1, 257, dtype=torch.uint8).view(1, 1, 16, 16)
    found = augmented(image.expand(200, -1, -1, -1), ("crop",), generator())
    padded = torch.nn.functional.pad(image, (2,) * 4)[0, 0]
    windows = {
        tuple(padded[down : down + 16, right : right + 16].flatten().tolist())
        for down in range(5)
        for right in range(5)
    }
    assert {tuple(one.flatten().tolist()) for one in found} == windows  # all 25 are drawn


def test_half_of_the_images_are_mirrored():
    image = torch.arange(3, dtype=torch.uint8).view(1, 1, 1, 3).expand(400, -1, -1, -1)
    found = augmented(image, ("flip",), generator())[:, 0, 0].tolist()
    assert 150 < found.count([2, 1, 0]) < 250
    assert found.count([2, 1, 0]) + found.count([0, 1, 2]) == 400
    assert torch.equal(augmented(image, (), generator()), image)


def test_scaled_images_have_mean_zero_and_variance_one():
    pixels = torch.randint(256, (50, 2, 4, 4), dtype=torch.uint8, generator=generator())
    pixels[:, 1] //= 3
    scaled = Scale(pixels)(pixels)
    assert scaled.mean((0, 2, 3)).abs().max() < 1e-5
    assert (scaled.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("step", "options", "rate"),
    [
        (0, dict(warmup=4), 0.25),
        (3, dict(warmup=4), 1.0),
        (4, dict(warmup=4), 1.0),
        (8, dict(warmup=4), (1 + math.cos(math.pi * 4 / 8)) / 2),
        (0, {}, 1.0),
        (6, {}, 0.5),
        (5, dict(schedule="steps", at=(0.5, 0.75)), 1.0),
        (6, dict(schedule="steps", at=(0.5, 0.75)), 0.1),
        (9, dict(schedule="steps", at=(0.5, 0.75), factor=0.2), 0.04),
        (7, dict(schedule="stairs", every=3, factor=0.5), 0.25),
        (11, dict(schedule="constant"), 1.0),
    ],
)
def test_learning_rates(step, options, rate):
    assert learning_rate(step, 12, 1.0, **options) == pytest.approx(rate)


def test_an_average_follows_its_rule_on_dense_and_sparse_networks():
    for method in ("dense", "static"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
        from sparse_core.building import sparsify

        sparsity = 0.5 if method == "static" else 0.0
        sparsify(net, SparseConfig(method=method, sparsity=sparsity, dense=("output",)))
        average = averaged(net, 0.99)
        expected = None
        for step in range(3):
            with torch.no_grad():
                net[2].bias += 1.0
                net[1].running_mean += 1.0
            average.update_parameters(net)
            now = net[2].bias.detach().clone()
            kept = min(0.99, (1 + step) / (10 + step))
            expected = now if expected is None else kept * expected + (1 - kept) * now
        found = with_average(net, average)
        assert torch.allclose(found[2].bias, expected, atol=1e-6)
        assert torch.equal(found[0](torch.ones(1, 4)) == 0, net[0](torch.ones(1, 4)) == 0)
        assert found.sparse_engine.layers()[0].active == net.sparse_engine.layers()[0].active


def size(name, **options) -> int:
    channels = options.pop("channels", 3)
    image = options.pop("image", 32)
    sparse = SparseConfig(method="dense", sparsity=0.0)
    spec = VisionSpec(dataset="x", network=name, sparse=sparse, **options)
    model, _ = make_model(spec, (channels, image, image), 10)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("mlp", dict(channels=1, image=28), 784 * 304 + 304 + 304 * 304 + 304 + 3050),
        # 3 stages of 3 blocks; 1.1 million as Evci et al. 2020 have it.
        ("wrn22-2", {}, 1_079_642),
        # One block: 2 x 2 x 64 of normalisation, 64 x (192 + 64) + 256 of attention, 64 x 512 + 320
        # of the linear layers; patches 48 x 64 + 64 and 64 places; normalisation; head.
        ("vit_tiny", dict(width=64, depth=1), 256 + 16640 + 33088 + 3136 + 4096 + 128 + 650),
        ("mobilenet_v3", dict(image=32), 4_214_842),
    ],
)
def test_sizes_of_networks(name, options, count):
    assert size(name, **options) == count


def weights(shape, **options) -> int:
    spec = VisionSpec(dataset="x", **options)
    _, engine = make_model(spec, shape, 10)
    return sum(layer.active for layer in engine.layers())


def test_a_tiny_mlp_by_hand():
    rigl = SparseConfig(method="rigl", sparsity=0.9)
    asked = dict(shape=(1, 8, 8), network="mlp", width=32, sparse=rigl)
    assert weights(**asked) == 339  # a tenth of 64 x 32 + 32 x 32 + 32 x 10
    # [4, 4] has 312, [5, 4] would have 380, [4, 5] has 326 and [4, 6] would have 340.
    assert weights(**asked, tiny=True) == 64 * 4 + 4 * 5 + 5 * 10


@pytest.mark.parametrize("network", ["resnet8", "wrn22-2"])
@pytest.mark.parametrize("sparse", [dict(sparsity=0.9), dict(sparsity=0.95, dense=("output",))])
def test_tiny_networks_have_almost_the_sparse_number_of_weights(network, sparse):
    shape = (3, 32, 32)
    budget = weights(shape, network=network, sparse=SparseConfig(method="static", **sparse))
    for method in ("static", "gmp"):
        asked = dict(network=network, sparse=SparseConfig(method=method, **sparse))
        assert 0.95 * budget < weights(shape, tiny=True, **asked) <= budget


def test_a_tiny_network_is_dense_and_too_few_weights_are_refused():
    few = SparseConfig(method="rigl", sparsity=0.9995)
    asked = dict(dataset="x", network="resnet8", tiny=True)
    model, engine = make_model(VisionSpec(**asked), (3, 8, 8), 10)
    assert engine.config.method == "dense" and not any("mask" in key for key in model.state_dict())
    said = r"width=\[16, 32, 64\]: no dense network of this shape has at most 39 weights"
    with pytest.raises(ValueError, match=said):
        make_model(VisionSpec(**asked, sparse=few), (3, 8, 8), 10)


def test_all_networks_of_ours_map_images_to_classes():
    for name, known in NETWORKS.items():
        if known.width is None:
            continue
        small = {"vit_tiny": 64, "wrn22-2": 1}.get(name, 4)
        spec = VisionSpec(
            dataset="x",
            network=name,
            width=small,
            depth=known.depth and 1,
            sparse=SparseConfig(method="static", sparsity=0.5),
        )
        model, engine = make_model(spec, (1, 8, 8), 3)
        assert model.eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
        assert all(layer.name.rpartition(".")[2] == "weight" for layer in engine.layers())
