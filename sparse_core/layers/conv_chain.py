"""Runs of condensed convolutions, computed on tiles as one function of autograd.

Batch normalisation is that of its module: moments of the batch in training, which move its running
statistics, and these in evaluation. What kernels do not take, and what torch has to see into, goes
module by module; derivatives of gradients are those of ordinary operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor

from sparse_core.kernels.conv import convolution
from sparse_core.kernels.conv_chain import Part, Passage
from sparse_core.kernels.conv_pools import Pool, Through
from sparse_core.kernels.conv_sides import Images, Operation, Side
from sparse_core.kernels.conv_stages import GIVEN, Array, Found, Moments, Norm, Stage, Wanted
from sparse_core.layers import torch_path
from sparse_core.layers.condensed_conv import as_images, as_tensor
from sparse_core.layers.conv_pooling import pooling_of
from sparse_core.layers.conv_runs import ConvRun, Step
from sparse_core.layers.conv_shapes import Shape, fits, is_of_batch, shapes_of
from sparse_core.layers.copies import release
from sparse_core.layers.links import Link, link_of
from sparse_core.layers.passes import live_only
from sparse_core.layers.tap import GradientTap

_NOTHING: Array = np.empty(0, np.float32)

_PIECE = 1 << 20  # bytes of a thread's tiles that go through a chain together, at least


def _run(run: ConvRun, input: Tensor) -> Tensor:
    shapes = shapes_of(run, input)
    if shapes is None:
        return run.plainly(input)
    if run.begin is not None:
        input = F.relu(run.begin(input))
    given = None if run.shortcut is None else run.shortcut(input)
    if given is not None and not fits(given, input, run.steps, shapes):
        return run.plainly(input)
    works = [_Work.of(step, shape) for step, shape in zip(run.steps, shapes, strict=False)]
    parameters = [parameter for work in works for parameter in work.parameters]
    tensors = [input, *parameters] if given is None else [input, given, *parameters]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return cast(Tensor, _Tiled.apply(input, given, works, *parameters))  # type: ignore[no-untyped-call]
    return _infer(works, input.detach(), given)


run_convolutions = torch_path.opaque(_run)
"""Apply a `ConvRun`, which `torch.compile` does not look into."""


@dataclass(frozen=True)
class _Work:
    """A step, as it is computed now.

    Attributes:
        step: The step.
        link: Its convolution; None: it has none.
        stage: What kernels take.
        parameters: Values, bias, and the normalisation's weight and bias, as far as there are any.
    """

    step: Step
    link: Link | None
    stage: Stage
    parameters: tuple[Tensor, ...]

    @classmethod
    def of(cls, step: Step, shape: Shape) -> _Work:
        """Return the work of a step on images of a shape."""
        norm, link, bias = step.norm, None, None
        operation: Operation
        values, parameters = _NOTHING, tuple[Tensor, ...]()
        if step.layer is not None:
            link = link_of(step.layer, None)
            operation = convolution(link.pattern, step.layer.window, *shape[1:])
            bias = link.bias if link.has_bias else None
            values, parameters = link.values, link.parameters
        else:
            pooling = None if step.pool is None else pooling_of(step.pool, shape[1:])
            operation = Through(*shape) if pooling is None else Pool(pooling, *shape)
        if norm is not None and norm.affine:
            parameters = (*parameters, norm.weight, norm.bias)
        stage = Stage(operation, values, bias, _norm(norm), step.relu, step.added)
        return cls(step, link, stage, parameters)

    def wanted(self, needed: Sequence[bool]) -> Wanted:
        """Return which gradients are wanted, given whether each parameter's is."""
        others = list(needed)
        of_values = self.link is not None and others.pop(0)
        of_bias = self.link is not None and self.link.has_bias and others.pop(0)
        return Wanted(of_values, of_bias, any(others))

    def gradients(self, found: Found, needed: Sequence[bool]) -> list[Tensor | None]:
        """Return the gradients of the parameters, None where they are not needed."""
        link, arrays = self.link, list[Array | None]()
        if link is not None:
            arrays = [found.values, found.bias] if link.has_bias else [found.values]
        arrays += list(found.norm or (None, None))[: len(needed) - len(arrays)]
        tensors = [None if array is None else torch.from_numpy(array) for array in arrays]
        if link is not None and link.has_bias and tensors[1] is not None:
            tensors[1] = live_only(link, tensors[1])
        return [t if need else None for t, need in zip(tensors, needed, strict=True)]


def _norm(norm: nn.BatchNorm2d | None) -> Norm | None:
    if norm is None:
        return None
    weight, bias = np.ones(norm.num_features, np.float32), np.zeros(norm.num_features, np.float32)
    if norm.affine:
        weight, bias = (p.detach().numpy().copy() for p in (norm.weight, norm.bias))
    given = None
    if not is_of_batch(norm):
        assert norm.running_mean is not None and norm.running_var is not None
        given = norm.running_mean.numpy().copy(), norm.running_var.numpy().copy()
    return Norm(weight, bias, norm.eps, given)


def _infer(works: Sequence[_Work], input: Tensor, given: Tensor | None) -> Tensor:
    """Return the output of works, some tiles after others where samples do not need each other."""
    widest = max(work.stage.operation.y.size for work in works)
    tiles = -(-_PIECE // (4 * widest)) * torch.get_num_threads()
    samples = tiles * works[0].stage.operation.tile
    if len(input) <= samples or any(work.stage.of_batch for work in works):
        return _forth(works, input, given)[1]
    pieces = torch.split(input, samples)
    beside = [None] * len(pieces) if given is None else torch.split(given, samples)
    return torch.cat([_forth(works, x, y)[1] for x, y in zip(pieces, beside, strict=True)])


def _forth(works: Sequence[_Work], input: Tensor, given: Tensor | None) -> tuple[Passage, Tensor]:
    """Return a passage through the works, and its output."""
    passage = Passage([work.stage for work in works], len(input), torch.get_num_threads())
    beside = None if given is None else as_images(given)
    out = passage.forward(as_images(input), beside)
    for i, moments in passage.moments.items():
        norm = works[i].step.norm
        if norm is not None:
            _move(norm, moments)
    last = works[-1].stage.operation.y
    return passage, as_tensor(out, (len(input), last.channels, *last.image))


@torch.no_grad()
def _move(norm: nn.BatchNorm2d, moments: Moments) -> None:
    """Move the running statistics of a normalisation, as its module does."""
    if not norm.training or not norm.track_running_stats or norm.running_mean is None:
        return
    share = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked) if share is None else share
    share = 0.0 if share is None else share
    unbiased = moments.variance * (moments.count / (moments.count - 1))
    norm.running_mean.lerp_(torch.from_numpy(moments.mean.astype(np.float32)), share)
    if norm.running_var is not None:
        norm.running_var.lerp_(torch.from_numpy(unbiased.astype(np.float32)), share)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, given: Tensor | None, works: Sequence[_Work], *parameters: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, given, *parameters)
        ctx.works = works
        ctx.passage, out = _forth(works, x.detach(), given)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, given, *parameters = ctx.saved_tensors
        works, needed = ctx.works, list(ctx.needs_input_grad)
        for work in works:
            if work.step.layer is not None:
                release(work.step.layer)
        again = torch.is_grad_enabled() or torch_path.looked_into()
        if again or is_legacy_batchedtensor(gradient):
            of_images, of_parameters = needed[:2], needed[3:]
            first, beside, *others = _differentiate(
                works, [x, given, *parameters], gradient, of_images + of_parameters
            )
            return (first, beside, None, *others)
        parts, begin = [], 3
        for work in works:
            parts.append(needed[begin : begin + len(work.parameters)])
            begin += len(work.parameters)
        taps = _Taps(works, len(x))
        dx, dgiven, found = ctx.passage.backward(
            as_images(_laid_out_as(x, gradient)),
            [work.wanted(part) for work, part in zip(works, parts, strict=True)],
            of_x=needed[0], of_given=needed[1], see=taps.see if taps.seen else None,
        )  # fmt: skip
        taps.tell()
        gradients: list[Tensor | None] = []
        for work, one, part in zip(works, found, parts, strict=True):
            gradients += work.gradients(one, part)
        return (
            None if dx is None else as_tensor(dx, tuple(x.shape)),
            None if dgiven is None or given is None else as_tensor(dgiven, tuple(given.shape)),
            None,
            *gradients,
        )


def _laid_out_as(x: Tensor, gradient: Tensor) -> Tensor:
    """Return a gradient in the layout of the input, which that of the input will have, too."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return gradient.contiguous(
        memory_format=torch.channels_last if last else torch.contiguous_format
    )


class _Taps:
    """What the taps of layers see that are armed: the factors of dense gradients, as images."""

    def __init__(self, works: Sequence[_Work], batch: int) -> None:
        self._works, self._batch = works, batch
        self.seen: dict[int, tuple[Images, Images]] = {
            i: (self._empty(work.stage.operation.x), self._empty(work.stage.operation.y))
            for i, work in enumerate(works)
            if _tap_of(work) is not None
        }

    def _empty(self, side: Side) -> Images:
        return Images(np.empty((self._batch, side.channels * math.prod(side.image)), np.float32))

    def see(self, i: int, x: Array, dy: Array, part: Part) -> None:
        """Copy the tiles of a part to images."""
        if i in self.seen:
            (of_x, of_y), threads = self.seen[i], torch.get_num_threads()
            products = self._works[i].stage.operation
            products.x.leave(x, of_x, part.sample, threads)
            products.y.leave(dy, of_y, part.sample, threads)

    def tell(self) -> None:
        """Show the images to the taps."""
        for i, images in self.seen.items():
            work = self._works[i]
            tap, values = _tap_of(work), work.parameters[0]
            if tap is None or not values.requires_grad:
                continue
            operation = work.stage.operation
            x, dy = (
                as_tensor(numbers, (self._batch, side.channels, *side.image))
                for numbers, side in zip(images, (operation.x, operation.y), strict=True)
            )
            tap.receive_product(x, dy, values)


def _tap_of(work: _Work) -> GradientTap | None:
    """Return the tap of a convolution that is armed."""
    layer = work.step.layer
    return layer.weight_tap if layer is not None and layer.weight_tap.armed else None


def _differentiate(
    works: Sequence[_Work], tensors: Sequence[Tensor | None], gradient: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """Differentiate a run in grad mode, so that the result can be differentiated in turn."""
    again, armed = torch.is_grad_enabled(), list[tuple[GradientTap, Tensor, Tensor]]()
    with torch.autocast("cpu", enabled=False):
        with torch.enable_grad():
            x, given, *parameters = (None if t is None else t.view_as(t) for t in tensors)
            assert x is not None
            remaining, inputs, out = iter(parameters), list[Tensor](), x
            for work in works:
                inputs.append(out)
                out, weight = _plainly(work, out, [next(remaining) for _ in work.parameters])
                tap = _tap_of(work)
                if tap is not None and weight is not None:
                    armed.append((tap, weight, work.parameters[0]))
                if work.step.added is not None:
                    more = given if work.step.added == GIVEN else inputs[work.step.added]
                    assert more is not None
                    out = out + more
                out = F.relu(out) if work.step.relu else out
        views = [x, given, *parameters]
        wanted = [v for v, need in zip(views, needed, strict=True) if need and v is not None]
        found = iter(torch.autograd.grad(out, wanted, gradient, create_graph=again))
    if again:
        for tap, weight, values in armed:
            tap.watch(weight, values)
    return [next(found) if need else None for need in needed]


def _plainly(work: _Work, x: Tensor, parameters: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
    """Return what comes out of an operation and its normalisation, and the dense weight."""
    step, norm, others = work.step, work.stage.norm, list(parameters)
    out, weight = x if step.pool is None else step.pool(x), None
    if step.layer is not None and work.link is not None:
        weight = torch_path.weight_of(step.layer, others.pop(0))
        bias = torch_path.bias_of(step.layer, others.pop(0) if work.link.has_bias else None)
        out = step.layer.convolve(x, weight.reshape(step.layer.weight_shape), bias)
    if norm is None:
        return out, weight
    mean, variance = (torch.from_numpy(a) for a in norm.given) if norm.given else (None, None)
    scale, shift = others or (None, None)
    return F.batch_norm(
        out, mean, variance, scale, shift, norm.given is None, 0.0, norm.eps
    ), weight
