"""Presets: published recipes by name, values that stand beneath those given. No torch is imported.

    rigl     RigL (Evci et al. 2020): the gradient grows, ERK
    srigl    SRigL (Lasby et al. 2024): constant fan-in with neuron ablation, ERK

Each sets the sparsity's method and schedule and the training of the network that is named:
CIFAR's residual networks 250 epochs of SGD with 0.1, times 0.2 every 77 epochs, weight decay 5e-4,
updates every 100 steps; `resnet50` 102 epochs of SGD with batches of 512, warm-up of five epochs,
times 0.1 at epochs 30, 70 and 90, label smoothing 0.1, updates every 800 steps by means of eight
gradients; `mobilenet_v3` 600 epochs of RMSprop with 0.064, times 0.973 every other epoch, batches
of 1,024 and updates every 100 steps by means of two gradients; `vit_b_16` AdamW with batches of
4,096, uniform sparsity, means of eight gradients and, with `srigl`, an ablation threshold of 0.95.

Where they differ from the papers: moments of moved weights are reset; `mobilenet_v3` is trained as
torchvision trains it dense, without its augmentation and its mean of the last three checkpoints;
`vit_b_16` has no augmentation beyond crops and flips, and its length and warm-up (150 and 16
epochs) are ours to choose. Other networks get the method and the schedule only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparse_core.checks import InputError, one_of

PRESETS = ("rigl", "srigl")

_CIFAR: dict[str, Any] = {
    "epochs": 250,
    "batch_size": 128,
    "optimizer": "sgd",
    "lr": 0.1,
    "weight_decay": 5e-4,
    "schedule": "steps",
    "lr_steps": [0.308, 0.616, 0.924],
    "lr_factor": 0.2,
}
_TRAINING: Mapping[str, dict[str, Any]] = {
    **dict.fromkeys(("resnet8", "resnet20", "resnet32", "resnet18", "wrn22-2"), _CIFAR),
    "resnet50": {
        "epochs": 102,
        "batch_size": 512,
        "optimizer": "sgd",
        "lr": 0.2,
        "weight_decay": 1e-4,
        "label_smoothing": 0.1,
        "warmup": 5.0,
        "schedule": "steps",
        "lr_steps": [30 / 102, 70 / 102, 90 / 102],
        "lr_factor": 0.1,
    },
    "mobilenet_v3": {
        "epochs": 600,
        "batch_size": 1024,
        "optimizer": "torch.optim:RMSprop",
        "optimizer_kwargs": {"momentum": 0.9, "alpha": 0.9, "eps": 0.0316},
        "lr": 0.064,
        "weight_decay": 1e-5,
        "schedule": "stairs",
        "lr_every": 2.0,
        "lr_factor": 0.973,
    },
    "vit_b_16": {
        "epochs": 150,
        "batch_size": 4096,
        "optimizer": "adamw",
        "lr": 0.003,
        "weight_decay": 0.3,
        "warmup": 16.0,
        "schedule": "cosine",
    },
}
_SPARSE: dict[str, Any] = {
    "distribution": "erk",
    "update_every": 100,
    "drop_fraction": 0.3,
    "stop_at": 0.75,
    "backend": "auto",
}
_OWN: Mapping[str, dict[str, Any]] = {
    "resnet50": {"update_every": 800, "gradient_steps": 8},
    "vit_b_16": {"distribution": "uniform", "gradient_steps": 8},
    "mobilenet_v3": {"gradient_steps": 2},
}
_ABLATION = {"vit_b_16": 0.95}


def expand(values: Mapping[str, Any], network: str) -> dict[str, Any]:
    """Put the values of the preset that is named beneath those that are given.

    Args:
        values: Fields of a run, nested; `preset` among them or not.
        network: The network unless they name one.

    Returns:
        The fields, without `preset`.

    Raises:
        InputError: If there is no such preset.
    """
    said = dict(values)
    name = said.pop("preset", None)
    if name is None:
        return said
    one_of("preset", name, PRESETS)
    chosen = said.get("network", network)
    sparse: dict[str, Any] = {"method": name, **_SPARSE, **_OWN.get(chosen, {})}
    if name == "srigl":
        sparse["ablation_threshold"] = _ABLATION.get(chosen, 0.3)
    given = said.get("sparse", {})
    if not isinstance(given, Mapping):
        raise InputError(f"sparse={given!r}: must be a mapping", field="sparse")
    return _TRAINING.get(chosen, {}) | said | {"sparse": sparse | dict(given)}
