"""Some rows of a condensed layer on one input, the others on another: attention to other tokens.

The rows of q, k and v are one layer. Where queries, keys and values are different tensors, each of
them is multiplied by its own rows only; gradients of the values are put together, so that the layer
trains as one. Rows have to be whole groups. What kernels do not take goes through the whole layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor

from sparse_core.kernels import plan
from sparse_core.kernels.buffers import empty
from sparse_core.kernels.format import Pattern
from sparse_core.layers import torch_path
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.copies import release
from sparse_core.layers.links import Link, link_of
from sparse_core.layers.passes import infer, live_only
from sparse_core.layers.passing import watched
from sparse_core.layers.ways import Needed, Rows


class Part(NamedTuple):
    """Rows of a layer, and what they are applied to.

    Attributes:
        input: `(..., in)`.
        first: The first row.
        last: The row after the last.
    """

    input: Tensor
    first: int
    last: int


@torch_path.opaque
def run_parts(layer: nn.Module, parts: Sequence[Part]) -> list[Tensor]:
    """Apply parts of a linear layer.

    Args:
        layer: Maps `(..., in)` to `(..., out)`.
        parts: Rows with their inputs.

    Returns:
        `(..., last - first)` for each part.
    """
    slices = _slices(layer, parts)
    if slices is None:
        return [layer(part.input)[..., part.first : part.last] for part in parts]
    assert isinstance(layer, CondensedLinear)
    link = link_of(layer, None)
    links = [_link(link, of_part) for of_part in slices]
    rows = [part.input.reshape(-1, part.input.shape[-1]) for part in parts]
    if torch.is_grad_enabled() and any(t.requires_grad for t in (*rows, *link.parameters)):
        found = _Parts.apply(link, links, slices, len(rows), *rows, *link.parameters)  # type: ignore[no-untyped-call]
        outputs = cast(tuple[Tensor, ...], found)
    else:
        pairs = zip(links, rows, strict=True)
        outputs = tuple(infer([one], x.detach()) for one, x in pairs)
    shapes = (part.input.shape[:-1] for part in parts)
    return [out.reshape(*shape, -1) for out, shape in zip(outputs, shapes, strict=True)]


class _Slice(NamedTuple):
    """Rows `first` to before `last` of a pattern, whose values are `begin` to before `end`."""

    pattern: Pattern
    first: int
    last: int
    begin: int
    end: int

    @classmethod
    def of(cls, pattern: Pattern, first: int, last: int) -> _Slice:
        group, rows = pattern.group, pattern.rows
        start, stop = (int(i) for i in rows.searchsorted((first // group, last // group)))
        begin, end = int(pattern.indptr[start]), int(pattern.indptr[stop])
        part = Pattern(
            pattern.in_features,
            last - first,
            group,
            pattern.columns[begin:end],
            pattern.indptr[start : stop + 1] - begin,
            rows[start:stop] - rows.dtype.type(first // group),
        )
        return cls(part, first, last, begin * group, end * group)


def _slices(layer: nn.Module, parts: Sequence[Part]) -> list[_Slice] | None:
    """Return the parts of a layer; None: kernels do not take them."""
    if not isinstance(layer, CondensedLinear) or watched(layer) or torch_path.looked_into():
        return None
    if layer.on_device or layer.shared is not None or layer._buffers["weight_given"] is not None:
        return None
    pattern, found = layer.pattern, []
    for x, first, last in parts:
        if x.dtype != torch.float32 or layer.values.dtype != torch.float32 or not x.is_cpu:
            return None
        if x.numel() == 0 or first % pattern.group or last % pattern.group:
            return None
        key = ("part", first, last)
        found.append(
            plan.keep(pattern, key, lambda a=first, b=last: _Slice.of(pattern, a, b))  # type: ignore[misc]
        )
    return found if all(part.pattern.groups for part in found) else None


def _link(whole: Link, part: _Slice) -> Link:
    """Return the link of a part of a layer."""
    values, bias = whole.values[part.begin : part.end], whole.bias[part.first : part.last]
    return Link(
        whole.layer, part.pattern, values, bias, whole.has_bias, None, None, whole.parameters, ()
    )  # fmt: skip


class _Parts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, whole: Link, links: Sequence[Link], slices: Sequence[_Slice], count: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.whole, ctx.links, ctx.slices, ctx.kept = whole, links, slices, []
        outputs = []
        for link, rows in zip(links, tensors[:count], strict=True):
            way = Rows(len(rows), torch.get_num_threads())
            before, out, _ = way.forward(link, way.enter(rows.detach()), keep=True)
            ctx.kept.append((way, before))
            outputs.append(way.leave(out))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors, needed, count = ctx.saved_tensors, ctx.needs_input_grad[4:], len(ctx.links)
        whole, layer = ctx.whole, ctx.whole.layer
        release(layer)
        visible = torch.is_grad_enabled() or torch_path.looked_into()
        if visible or any(is_legacy_batchedtensor(g) for g in gradients if g is not None):
            return (None,) * 4 + _visibly(whole, ctx.slices, tensors, gradients, needed)
        of_values, of_bias = needed[count], whole.has_bias and needed[count + 1]
        values, bias = empty(whole.values.size), empty(whole.pattern.out_features)
        values.fill(0)
        bias.fill(0)
        of_rows: list[Tensor | None] = []
        for i, (link, part) in enumerate(zip(ctx.links, ctx.slices, strict=True)):
            gradient, (way, before) = gradients[i], ctx.kept[i]
            if gradient is None:
                of_rows.append(None)
                continue
            signal = way.enter(gradient)
            if layer.weight_tap.armed:
                x, dy = way.watched(before, signal)
                layer.weight_tap.receive_product(x, _widened(whole, part, dy), whole.parameters[0])
            wanted = Needed(needed[i], of_values, of_bias)
            dx, dvalues, dbias = way.backward(link, before, signal, wanted)
            of_rows.append(way.leave(dx) if needed[i] else None)
            if of_values and dvalues is not None:
                values[part.begin : part.end] = dvalues.numpy()
            if of_bias and dbias is not None:
                bias[part.first : part.last] = dbias.numpy()
        others = [torch.from_numpy(values) if of_values else None]
        if whole.has_bias:
            others.append(live_only(whole, torch.from_numpy(bias)) if of_bias else None)
        return (*(None,) * 4, *of_rows, *others)


def _widened(whole: Link, part: _Slice, gradient: Tensor) -> Tensor:
    """Return the gradient of all outputs, given that of a part's."""
    return F.pad(gradient, (part.first, whole.pattern.out_features - part.last))


def _visibly(
    whole: Link, slices: Sequence[_Slice], tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None], needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """Return the gradients of rows and parameters in operations of torch."""
    count = len(slices)
    parameters, layers = tensors[count:], [(whole.layer, None)]
    of_rows: list[Tensor | None] = []
    totals: list[Tensor | None] = [None] * len(parameters)
    for i, (part, gradient) in enumerate(zip(slices, gradients, strict=True)):
        if gradient is None:
            of_rows.append(None)
            continue
        asked = [needed[i], *needed[count:]]
        signal = _widened(whole, part, gradient)
        first, *found = torch_path.gradients(layers, [tensors[i], *parameters], signal, asked)
        of_rows.append(first)
        totals = [
            more if total is None or more is None else total + more
            for total, more in zip(totals, found, strict=True)
        ]
    return (*of_rows, *totals)
