"""Optimizer steps on images, from any of which a run can go on as if it had never stopped."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_core.checkpoints import Checkpoints
from sparse_core.checks import InputError
from sparse_core.metrics.tally import UpdateTally
from sparse_core.streams import stream
from supervised.data.images import ImageParts
from supervised.epochs import Progress
from supervised.vision.augment import Scale, augmented
from supervised.vision.averaging import averaged, with_average
from supervised.vision.build import device_of, make_model, optimizer_of
from supervised.vision.learning_rate import learning_rate
from supervised.vision.measuring import Accuracy, accuracy, mixed
from supervised.vision.spec import VisionSpec, check_corruptions

SEEN = 10_000
"""Training images, the first so many, of which mean and variance are taken."""


class Training:
    """The training of a run: all that changes while it goes on.

    The order of an epoch and the changes of its images are functions of the seed and their
    numbers, so nothing of them is kept.

    Args:
        spec: The run.
        parts: Its images.

    Attributes:
        steps: Optimizer steps done.
        curve: Epochs and accuracy after each, on images held out or, without such, test images.
        losses: Mean loss of each epoch.
        last: What was measured last.
    """

    def __init__(self, spec: VisionSpec, parts: ImageParts) -> None:
        self.spec = spec
        count, *shape = parts.train.pixels.shape
        if count < spec.batch_size:
            raise InputError(
                f"batch_size={spec.batch_size}: must be at most {count}, the images for training",
                field="batch_size",
            )
        self.per_epoch = count // spec.batch_size
        check_corruptions(spec.corruptions, shape[0])
        self.device = device_of(spec)
        self.model, self.engine = make_model(spec, (shape[0], shape[1], shape[2]), parts.classes)
        self.optimizer = optimizer_of(spec, self.model.parameters())
        self.engine.attach(self.optimizer)
        self.engine.set_horizon(spec.epochs * self.per_epoch)
        self.average = averaged(self.model, spec.ema) if spec.ema else None
        self.moves = UpdateTally({"network": self.engine})
        self.scale = Scale(parts.train.pixels.take(torch.arange(min(count, SEEN))))
        self.steps = 0
        self.total = 0.0
        self.curve: list[list[float]] = []
        self.losses: list[float] = []
        self.last = Accuracy(0.0, 0.0)

    def train(
        self, parts: ImageParts, progress: Progress, checkpoints: Checkpoints | None = None
    ) -> None:
        """Make the steps that are left.

        Args:
            parts: The images of the run.
            progress: Called with the fraction done and the accuracy so far.
            checkpoints: Where to write how far it is; None: nowhere.

        Raises:
            FloatingPointError: If the loss is NaN or infinite.
        """
        spec = self.spec
        looked_at = parts.test if parts.valid is None else parts.valid
        while len(self.curve) < spec.epochs:
            epoch = len(self.curve)
            order = torch.randperm(len(parts.train), generator=stream(spec.seed, "batches", epoch))
            done = self.steps - epoch * self.per_epoch
            self.model.train()
            for rows in torch.split(order, spec.batch_size)[done : self.per_epoch]:
                changes = stream(spec.seed, "augment", self.steps)
                pixels = augmented(parts.train.pixels.take(rows), spec.augment_in_force, changes)
                self._step(self.scale(pixels), parts.train.labels[rows])
                self._tell(progress)
                if checkpoints is not None and checkpoints.due():
                    outside = {"parts": parts, "progress": progress}
                    checkpoints.save({"training": self}, outside=outside)
            self.losses.append(self.total / self.per_epoch)
            self.total = 0.0
            self.last = accuracy(self.measured(), looked_at, self.scale, spec.precision)
            self.curve.append([epoch + 1, self.last.top1])
        self._tell(progress)

    def measured(self) -> torch.nn.Module:
        """Return what is measured: the network, with its averaged weights if there are any."""
        return self.model if self.average is None else with_average(self.model, self.average)

    def _step(self, images: Tensor, labels: Tensor) -> None:
        spec = self.spec
        rate = learning_rate(
            self.steps,
            spec.epochs * self.per_epoch,
            spec.lr,
            schedule=spec.schedule,
            warmup=round(spec.warmup * self.per_epoch),
            at=spec.lr_steps,
            every=round(spec.lr_every * self.per_epoch),
            factor=spec.lr_factor,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        images, labels = images.to(self.device), labels.to(self.device)
        with mixed(self.device, spec.precision):
            scores = self.model(images)
        loss = F.cross_entropy(scores.float(), labels, label_smoothing=spec.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} in step {self.steps + 1}; try a smaller lr"
            )
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.steps += 1
        self.total += value

    def _tell(self, progress: Progress) -> None:
        numbers = {"accuracy": self.curve[-1][1]} if self.curve else {}
        progress(self.steps / (self.spec.epochs * self.per_epoch), numbers)
