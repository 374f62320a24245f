"""Runs of condensed convolutions, computed on tiles as one function of autograd.

Batch normalisation is that of its module: moments of the batch in training, which move its running
statistics, and these in evaluation. What kernels do not take, and what torch has to see into, goes
module by module; derivatives of gradients are those of ordinary operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor

from sparse_core.kernels.conv import Images, convolution
from sparse_core.kernels.conv_chain import Part, Passage
from sparse_core.kernels.conv_shape import Pair
from sparse_core.kernels.conv_stages import GIVEN, Array, Found, Moments, Norm, Stage, Wanted
from sparse_core.layers import torch_path
from sparse_core.layers.condensed_conv import FEW, as_images, as_tensor, why_not_kernels
from sparse_core.layers.conv_runs import ConvRun, Step
from sparse_core.layers.copies import release
from sparse_core.layers.links import Link, link_of
from sparse_core.layers.passes import live_only


def _run(run: ConvRun, input: Tensor) -> Tensor:
    sizes = _sizes(run.steps, input)
    if sizes is None:
        return run.plainly(input)
    given = None if run.shortcut is None else run.shortcut(input)
    if given is not None and not _fits(given, input, run.steps, sizes):
        return run.plainly(input)
    works = [_Work.of(step, size) for step, size in zip(run.steps, sizes, strict=False)]
    parameters = [parameter for work in works for parameter in work.parameters]
    tensors = [input, *parameters] if given is None else [input, given, *parameters]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return cast(Tensor, _Tiled.apply(input, given, works, *parameters))  # type: ignore[no-untyped-call]
    return _forth(works, input, given)[1]


run_convolutions = torch_path.opaque(_run)
"""Apply a `ConvRun`, which `torch.compile` does not look into."""


@dataclass(frozen=True)
class _Work:
    """A step, as it is computed now.

    Attributes:
        step: The step.
        link: Its convolution.
        stage: What kernels take.
        parameters: Values, bias, and the normalisation's weight and bias, as far as there are any.
    """

    step: Step
    link: Link
    stage: Stage
    parameters: tuple[Tensor, ...]

    @classmethod
    def of(cls, step: Step, size: Pair) -> _Work:
        """Return the work of a step on images of a size."""
        link, norm = link_of(step.layer, None), step.norm
        products = convolution(link.pattern, step.layer.window, *size)
        bias = link.bias if link.has_bias else None
        parameters = link.parameters
        if norm is not None and norm.affine:
            parameters = (*parameters, norm.weight, norm.bias)
        stage = Stage(products, link.values, bias, _norm(norm), step.relu, step.added)
        return cls(step, link, stage, parameters)

    def wanted(self, needed: Sequence[bool]) -> Wanted:
        """Return which gradients are wanted, given whether each parameter's is."""
        of_values, *others = needed
        of_bias = self.link.has_bias and others.pop(0)
        return Wanted(of_values, of_bias, any(others))

    def gradients(self, found: Found, needed: Sequence[bool]) -> list[Tensor | None]:
        """Return the gradients of the parameters, None where they are not needed."""
        arrays: list[Array | None] = [found.values]
        arrays += [found.bias] if self.link.has_bias else []
        arrays += list(found.norm or (None, None))[: len(needed) - len(arrays)]
        tensors = [None if array is None else torch.from_numpy(array) for array in arrays]
        if self.link.has_bias and tensors[1] is not None:
            tensors[1] = live_only(self.link, tensors[1])
        return [t if need else None for t, need in zip(tensors, needed, strict=True)]


def _norm(norm: nn.BatchNorm2d | None) -> Norm | None:
    if norm is None:
        return None
    weight, bias = np.ones(norm.num_features, np.float32), np.zeros(norm.num_features, np.float32)
    if norm.affine:
        weight, bias = (p.detach().numpy().copy() for p in (norm.weight, norm.bias))
    given = None
    if not _of_batch(norm):
        assert norm.running_mean is not None and norm.running_var is not None
        given = norm.running_mean.numpy().copy(), norm.running_var.numpy().copy()
    return Norm(weight, bias, norm.eps, given)


def _of_batch(norm: nn.BatchNorm2d) -> bool:
    """Whether a normalisation goes by the moments of the batch."""
    return norm.training or (norm.running_mean is None and norm.running_var is None)


def _sizes(steps: Sequence[Step], input: Tensor) -> list[Pair] | None:
    """Return the size of the images before each step and at the end; None: not for kernels."""
    if torch_path.looked_into() or torch.is_autocast_enabled("cpu"):
        return None
    if not input.is_cpu or input.dtype != torch.float32 or input.dim() != 4:
        return None
    if len(input) < (1 if torch.is_grad_enabled() else FEW):
        return None
    channels, sizes = input.shape[1], [(input.shape[2], input.shape[3])]
    shapes = []
    for step in steps:
        layer, norm = step.layer, step.norm
        shapes.append((channels, sizes[-1]))
        parameters = [layer.values, *(norm.parameters() if norm is not None else ())]
        if any(not p.is_cpu or p.dtype != torch.float32 for p in parameters):
            return None
        if channels != layer.in_channels or layer.shared is not None:
            return None
        window = layer.window
        size = window.output(*sizes[-1])
        if why_not_kernels(layer, *sizes[-1]) is not None:
            return None
        channels = layer.out_channels
        sizes.append(size)
        if step.added not in (None, GIVEN) and shapes[step.added] != (channels, size):
            return None
        if norm is not None and _of_batch(norm) and len(input) * size[0] * size[1] < 2:
            return None
    return sizes


def _fits(given: Tensor, input: Tensor, steps: Sequence[Step], sizes: Sequence[Pair]) -> bool:
    """Whether what a shortcut gives can be added."""
    at = next(i for i, step in enumerate(steps) if step.added == GIVEN)
    shape = (len(input), steps[at].layer.out_channels, *sizes[at + 1])
    return given.shape == shape and given.dtype == torch.float32 and given.is_cpu


def _forth(works: Sequence[_Work], input: Tensor, given: Tensor | None) -> tuple[Passage, Tensor]:
    """Return a passage through the works, and its output."""
    passage = Passage([work.stage for work in works], len(input), torch.get_num_threads())
    beside = None if given is None else as_images(given)
    out = passage.forward(as_images(input), beside)
    for i, moments in passage.moments.items():
        norm = works[i].step.norm
        if norm is not None:
            _move(norm, moments)
    last = works[-1].stage.convolution
    return passage, as_tensor(out, (len(input), last.layout.window.filters, *last.layout.out))


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
            i: (self._empty(work, 0), self._empty(work, 1))
            for i, work in enumerate(works)
            if work.step.layer.weight_tap.armed
        }

    def _empty(self, work: _Work, which: int) -> Images:
        channels, height, width = self._shapes(work)[which]
        return Images(np.empty((self._batch, channels * height * width), np.float32))

    @staticmethod
    def _shapes(work: _Work) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        layout = work.stage.convolution.layout
        x = layout.window.channels, layout.height, layout.width
        return x, (layout.window.filters, *layout.out)

    def see(self, i: int, x: Array, dy: Array, part: Part) -> None:
        """Copy the tiles of a part to images."""
        if i in self.seen:
            (of_x, of_y), threads = self.seen[i], torch.get_num_threads()
            products = self._works[i].stage.convolution
            products.x.leave(x, of_x, part.sample, threads)
            products.y.leave(dy, of_y, part.sample, threads)

    def tell(self) -> None:
        """Show the images to the taps."""
        for i, images in self.seen.items():
            work = self._works[i]
            if not work.link.parameters[0].requires_grad:
                continue
            x, dy = (
                as_tensor(numbers, (self._batch, *shape))
                for numbers, shape in zip(images, self._shapes(work), strict=True)
            )
            work.step.layer.weight_tap.receive_product(x, dy, work.link.parameters[0])


def _differentiate(
    works: Sequence[_Work], tensors: Sequence[Tensor | None], gradient: Tensor,
    needed: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """Differentiate a run in grad mode, so that the result can be differentiated in turn."""
    again, armed = torch.is_grad_enabled(), list[tuple[_Work, Tensor]]()
    with torch.autocast("cpu", enabled=False):
        with torch.enable_grad():
            x, given, *parameters = (None if t is None else t.view_as(t) for t in tensors)
            assert x is not None
            remaining, inputs, out = iter(parameters), list[Tensor](), x
            for work in works:
                inputs.append(out)
                out, weight = _plainly(work, out, [next(remaining) for _ in work.parameters])
                if work.step.layer.weight_tap.armed:
                    armed.append((work, weight))
                if work.step.added is not None:
                    more = given if work.step.added == GIVEN else inputs[work.step.added]
                    assert more is not None
                    out = out + more
                out = F.relu(out) if work.step.relu else out
        views = [x, given, *parameters]
        wanted = [v for v, need in zip(views, needed, strict=True) if need and v is not None]
        found = iter(torch.autograd.grad(out, wanted, gradient, create_graph=again))
    if again:
        for work, weight in armed:
            work.step.layer.weight_tap.watch(weight, work.step.layer.values)
    return [next(found) if need else None for need in needed]


def _plainly(work: _Work, x: Tensor, parameters: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return what comes out of a convolution and its normalisation, and the dense weight."""
    layer, norm = work.step.layer, work.stage.norm
    values, *others = parameters
    bias = torch_path.bias_of(layer, others.pop(0) if work.link.has_bias else None)
    weight = torch_path.weight_of(layer, values)
    out = layer.convolve(x, weight.reshape(layer.weight_shape), bias)
    if norm is None:
        return out, weight
    mean, variance = (torch.from_numpy(a) for a in norm.given) if norm.given else (None, None)
    scale, shift = others or (None, None)
    return F.batch_norm(
        out, mean, variance, scale, shift, norm.given is None, 0.0, norm.eps
    ), weight
