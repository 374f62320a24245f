"""What a run on images can be asked for, and what it refuses before the data is read."""

from __future__ import annotations

import pytest

from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from supervised.vision.spec import VisionSpec
from sweeps.language.grid import parse


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(network="resnet9"), "network='resnet9': must be one of mlp, resnet8"),
        (dict(optimizer="adamm"), "optimizer='adamm': must be one of sgd, adamw, or"),
        (
            dict(schedule="linear"),
            "schedule='linear': must be one of cosine, steps, stairs, constant",
        ),
        (dict(ema=1.0), "ema=1.0: must be a number in [0, 1)"),
        (dict(augment=("mixup",)), "augment='mixup': must be one of crop, flip"),
        (dict(warmup=11.0), "warmup=11.0: must be at most the 10 epochs"),
        (dict(depth=3), "depth=3: network 'resnet8' has no such choice, these have: mlp, vit_tiny"),
        (dict(image_size=16), "image_size=16: is for a folder of images, those of 'cifar10-jpeg'"),
        (
            dict(network="resnet50", dataset="mnist"),
            "network='resnet50': takes colour images, those of 'mnist' are grey; these take both: "
            "mlp, resnet8",
        ),
        (
            dict(network="vit_tiny", dataset="folder", image_size=30),
            "network='vit_tiny': cuts images into patches of 4 x 4, which do not divide the "
            "30 x 30 of 'folder'",
        ),
        (dict(corruptions=("frost",)), "corruptions='frost': must be one of gaussian_noise"),
        (
            dict(corruptions=("saturate",), dataset="mnist"),
            "corruptions='saturate': is for colour images, these are grey",
        ),
        (dict(network="vit_tiny", width=100), "width=100: must be at most 64, a head's size"),
        (dict(optimizer_kwargs={"lr": 1}), "optimizer_kwargs.lr: is a field of the run itself"),
        (dict(tiny=1), "tiny=1: must be true or false"),
        (
            dict(tiny=True, network="vit_tiny"),
            "tiny=True: network 'vit_tiny' cannot have any width, these can: mlp, resnet8, ",
        ),
        (dict(tiny=True, network="lab:Net"), "tiny=True: network 'lab:Net' cannot have any width"),
        (dict(tiny=True, weights="w.pt"), "weights='w.pt': are of the whole network"),
        (dict(sparse=SparseConfig(method="ticket")), "sparse.method='ticket': trains in rounds"),
    ],
)
def test_what_a_spec_refuses(fields, said):
    with pytest.raises(InputError) as error:
        VisionSpec(**fields)
    assert str(error.value).startswith(said)


def test_what_plays_no_part_makes_no_other_run():
    assert VisionSpec(width=16, lr_factor=0.5).canonical() == VisionSpec().canonical()
    assert VisionSpec(augment=("flip", "crop")).canonical() == VisionSpec().canonical()
    assert VisionSpec(augment=()).canonical() != VisionSpec().canonical()
    assert VisionSpec(dataset="mnist", augment=()).canonical().augment is None


def test_a_tiny_run_is_one_run_whatever_it_stands_beside():
    def tiny(**sparse) -> VisionSpec:
        return VisionSpec(tiny=True, sparse=SparseConfig(**sparse))

    spec = tiny(method="rigl", update_every=7)
    assert spec.in_force()["sparse.method"] == "tiny"
    assert spec.canonical() == tiny(method="srigl").canonical() != VisionSpec().canonical()
    assert spec.canonical() != tiny(method="rigl", sparsity=0.8).canonical()


def test_presets_are_of_the_network():
    def asked(**values) -> VisionSpec:
        (run,) = parse(f"name: x\nkind: vision\nbase: {values}").runs
        return run.spec

    spec = asked(preset="srigl", network="resnet18", epochs=2)
    assert (spec.epochs, spec.lr, spec.lr_factor) == (2, 0.1, 0.2)
    sparse = spec.sparse
    assert (sparse.method, sparse.update_every, sparse.ablation_threshold) == ("srigl", 100, 0.3)
    mobile = asked(preset="srigl", network="mobilenet_v3", dataset="imagenet")
    assert (mobile.optimizer, mobile.schedule, mobile.lr_every) == (
        "torch.optim:RMSprop", "stairs", 2,
    )  # fmt: skip
    vit = asked(preset="srigl", network="vit_b_16", dataset="imagenet").sparse
    assert (vit.distribution, vit.gradient_steps, vit.ablation_threshold) == ("uniform", 8, 0.95)
    rigl = asked(preset="rigl", sparse={"sparsity": 0.95})
    assert (rigl.sparse.method, rigl.sparse.sparsity, rigl.epochs) == ("rigl", 0.95, 250)
    with pytest.raises(InputError, match="preset='set': must be one of rigl, srigl"):
        VisionSpec.expand({"preset": "set"})
