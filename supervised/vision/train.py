"""One run on images: a spec in, a result out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_core.ahead import import_ahead
from sparse_core.checkpoints import Checkpoints
from sparse_core.metrics.tally import weights
from sparse_core.pickling import set_streams
from supervised.data.image_files import load_images
from supervised.data.images import divided
from supervised.epochs import Progress
from supervised.vision.build import dense_state
from supervised.vision.corrupted import corrupted_accuracy
from supervised.vision.measuring import accuracy
from supervised.vision.spec import VisionSpec
from supervised.vision.training import Training

WEIGHTS = "weights.pt"
"""The file of the trained weights in a run's output."""


def ahead() -> None:
    """Import what runs import as they go, for a process that forks them."""
    import_ahead("PIL.Image", "PIL.ImageOps")


def run(
    spec: VisionSpec, out: Path, progress: Progress, checkpoints: Checkpoints | None = None
) -> dict[str, Any]:
    """Train on some images and measure on others after each epoch; the last epoch counts.

    Args:
        spec: The run.
        out: A folder for `weights.pt`, the state of the dense network that computes what the
            trained one does.
        progress: Called with the fraction done and the accuracy so far.
        checkpoints: Where to write how far it is, and to go on from; None: nowhere.

    Returns:
        `score`, the fraction of test images whose class is found; `top5`; `curve`, the same after
        each epoch, on the images held out if there are any, and `valid_score`, its end then;
        `losses` of each epoch; `images` of each part;
        `sparsity`, `layers`, `bytes`, `updates` and `still` (see `sparse_core.metrics.tally`), all
        as JSON can hold them. With an average of the weights also `unaveraged`, the score without;
        with corruptions `corrupted` and `corrupted_accuracy` (`supervised.vision.corrupted`).

    Raises:
        InputError: If the data is missing or broken, or the spec does not suit it.
    """
    random.seed(spec.seed)
    np.random.seed(spec.seed % 2**32)
    torch.manual_seed(spec.seed)
    train, test = load_images(spec.dataset, spec.image_size)
    parts = divided(
        train,
        test,
        samples=spec.samples,
        valid_fraction=spec.valid_fraction,
        seed=spec.seed,
    )
    outside = {"parts": parts, "progress": progress}
    state = None if checkpoints is None else checkpoints.load(outside)
    if state is None:
        training = Training(spec, parts)
    else:
        training = state["training"]
        set_streams(state["streams"])
    training.train(parts, progress, checkpoints)
    training.moves.end()
    model, scale = training.measured(), training.scale
    torch.save(dense_state(model), out / WEIGHTS)
    further: dict[str, Any] = {}
    found = training.last
    if parts.valid is not None:
        further["valid_score"] = found.top1
        found = accuracy(model, parts.test, scale, spec.precision)
    if spec.ema:
        further["unaveraged"] = accuracy(training.model, parts.test, scale, spec.precision).top1
    if spec.corruptions:
        further |= corrupted_accuracy(
            model,
            parts.test,
            scale,
            spec.corruptions,
            count=spec.corruption_images,
            precision=spec.precision,
            told=lambda: progress(1.0, {"accuracy": found.top1}),
        )
    named = {"train": parts.train, "valid": parts.valid, "test": parts.test}
    return {
        "score": found.top1,
        "top5": found.top5,
        "curve": training.curve,
        "losses": training.losses,
        "images": {name: len(part) for name, part in named.items() if part is not None},
        **further,
        **weights({"network": training.engine}),
        **training.moves.result(),
    }
