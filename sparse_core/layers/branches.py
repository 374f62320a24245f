"""Several chains of condensed layers on one input, as one function of autograd: twin critics.

The input is packed once, its gradient unpacked once, and autograd has one node to visit. Each chain
gives the numbers that it gives alone; one whose output is not differentiated gets no gradients, and
outputs may be differentiated one after the other, as if they had nothing in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor
from torch.nn.modules import module as modules

from sparse_core.layers import torch_path
from sparse_core.layers.chain import CondensedSequential, whole_chain
from sparse_core.layers.copies import release
from sparse_core.layers.links import Link, layers_of, link_of
from sparse_core.layers.passes import SMALL_BATCH, back
from sparse_core.layers.torch_path import Layers, opaque
from sparse_core.layers.ways import Blocked

Chains = list[list[Link]]

GLOBAL_HOOKS = [
    table
    for name, table in vars(modules).items()
    if name.startswith(("_global_forward", "_global_backward")) and isinstance(table, dict)
]
"""torch's tables of hooks on all modules; which there are depends on its version."""


def run_branches(networks: Sequence[nn.Module], input: Tensor) -> tuple[Tensor, ...]:
    """Apply each of several networks to an input.

    Chains on the CPU run together, anything else one by one.

    Args:
        networks: Modules of one input.
        input: What they all take.

    Returns:
        Their outputs.
    """
    if all(type(network) is CondensedSequential for network in networks):
        return _run(networks, input)
    return tuple(network(input) for network in networks)


@opaque
def _run(networks: Sequence[nn.Module], input: Tensor) -> tuple[Tensor, ...]:
    layers = _together(networks, input)
    if layers is None:
        return tuple(network(input) for network in networks)
    chains = [[link_of(*layer) for layer in chain] for chain in layers]
    parameters = [p for links in chains for link in links for p in link.parameters]
    if torch.is_grad_enabled() and (
        input.requires_grad or any(parameter.requires_grad for parameter in parameters)
    ):
        return cast(tuple[Tensor, ...], _Branches.apply(input, chains, *parameters))  # type: ignore[no-untyped-call]
    way = Blocked(len(input), torch.get_num_threads())
    packed = way.enter(input.detach())
    outputs = []
    for links in chains:
        signal = packed
        for link in links:
            _, signal, _ = way.forward(link, signal, keep=False)
        outputs.append(way.leave(signal))
    return tuple(outputs)


def _together(networks: Sequence[nn.Module], input: Tensor) -> list[Layers] | None:
    """Return the layers of networks that can run together; None: they cannot."""
    if (
        len(networks) < 2
        or type(input) is not Tensor
        or input.dtype != torch.float32
        or input.dim() != 2
        or not input.is_cpu
        or len(input) <= SMALL_BATCH
        or torch_path.looked_into()
        or any(GLOBAL_HOOKS)
    ):
        return None
    chains: list[Layers] = []
    for network in networks:
        assert isinstance(network, CondensedSequential)
        steps = whole_chain(network)
        if steps is None:
            return None
        layers = layers_of(steps)
        if len(layers) < 2 or layers[0][0].dense_shape[1] != input.shape[1]:
            return None
        for layer, _ in layers:
            if layer.on_device or layer.values.dtype != torch.float32:
                return None
        chains.append(layers)
    return chains


class _Branches(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, chains: Chains, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        # What autograd saves it frees after the first of several backward passes.
        ctx.chains, ctx.rows, ctx.parameters = chains, rows, parameters
        ctx.versions = [_version(tensor) for tensor in (rows, *parameters)]
        ctx.way = way = Blocked(len(rows), torch.get_num_threads())
        packed = way.enter(rows.detach())
        ctx.kept, outputs = [], []
        for links in chains:
            signal, kept = packed, []
            for link in links:
                before, signal, seen = way.forward(link, signal, keep=True)
                kept.append((before, seen))
            ctx.kept.append(kept)
            outputs.append(way.leave(signal))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors = [ctx.rows, *ctx.parameters]
        if [_version(tensor) for tensor in tensors] != ctx.versions:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                "inplace operation: the input or a parameter of condensed layers"
            )
        visible = torch.is_grad_enabled() or torch_path.looked_into()
        visible = visible or any(is_legacy_batchedtensor(g) for g in gradients if g is not None)
        of_input, _, *needed = ctx.needs_input_grad
        total: Any = None
        found: list[Tensor | None] = []
        # The last first: the order in which autograd adds up gradients of an input.
        for links, kept, gradient in zip(
            reversed(ctx.chains), reversed(ctx.kept), reversed(gradients), strict=True
        ):
            end = len(needed) - len(found)
            begin = end - sum(len(link.parameters) for link in links)
            if gradient is None:
                found[:0] = [None] * (end - begin)
                continue
            for link in links:
                release(link.layer)
            asked = [of_input, *needed[begin:end]]
            if visible:
                layers = [(link.layer, link.activation) for link in links]
                mine = [ctx.rows, *ctx.parameters[begin:end]]
                first, *others = torch_path.gradients(layers, mine, gradient, asked)
            else:
                signal = ctx.way.enter(gradient)
                first, others = back(links, kept, ctx.way, signal, asked)
            if of_input:
                total = first if total is None else total + first
            found[:0] = others
        if total is not None and not visible:
            total = ctx.way.leave(total)
        return (total, None, *found)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
