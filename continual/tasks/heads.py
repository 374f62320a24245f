"""Whether the layer that is taken for the head is the one that makes the logits.

Roles are given by the order in which layers are registered, before any data is there. Which layer
does make the logits shows in a forward pass: the one whose output reaches the network's output, in
the graph of autograd, through no other layer.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from continual.tasks.earlier import evaluating
from sparse_core.checks import InputError
from sparse_core.counts import LayerCount


@torch.compiler.disable  # type: ignore[untyped-decorator]
def check_head(model: nn.Module, layers: Sequence[LayerCount], head: str, x: Tensor) -> None:
    """Trace a forward pass in evaluation mode, and compare; nothing is changed.

    Args:
        model: The network.
        layers: Its layers that can be sparse.
        head: The weight of the one that is taken for the head.
        x: `(batch, ...)`.

    Raises:
        ValueError: If another layer makes the logits, saying which `roles` would be right.
    """
    taken = head.rpartition(".")[0]
    order, makers = _trace(model, layers, x, taken)
    if not makers or makers == [taken]:
        return
    names = " and ".join(map(repr, makers))
    if taken in makers:
        warnings.warn(
            f"layer {taken!r}: taken for the head, but the logits come from {names}; only "
            f"{taken!r} is each task's own as a whole (roles={{{makers[0]!r}: 'output'}} chooses)",
            stacklevel=2,
        )
        return
    right = dict.fromkeys(order, "hidden") | {order[0]: "input", makers[-1]: "output"}
    roles = {layer.name.rpartition(".")[0]: layer.role for layer in layers}
    changed = {name: role for name, role in right.items() if roles[name] not in (role, "qkv")}
    raise InputError(
        f"layer {taken!r}: taken for the head, as the one registered last, but the logits come "
        f"from {names}; pass roles={changed}"
    )


def _trace(
    model: nn.Module, layers: Sequence[LayerCount], x: Tensor, head: str
) -> tuple[list[str], list[str]]:
    """Return layers in the order in which they were first called, and those that make the logits.

    There are none of the latter where the graph does not tell: in inference mode, say, or if the
    head is recomputed in the backward pass.
    """
    nodes: dict[Any, str] = {}
    order: dict[str, None] = {}
    with ExitStack() as stack:
        for layer in layers:
            name = layer.name.rpartition(".")[0]

            def note(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                order.setdefault(name)
                first = _first(output)
                if first is not None and first.grad_fn is not None:
                    nodes[first.grad_fn] = name

            handle = _caller(model, name).register_forward_hook(note)
            stack.callback(handle.remove)
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.random.fork_rng(devices=[x.device] if x.is_cuda else []))
        probe = x[:2].detach().clone()  # a graph of few samples; one may be too few for a layer
        if probe.is_floating_point():
            probe = probe.requires_grad_() * 1  # no leaf: the network may write into it
        output = _first(model(probe))
    makers: dict[str, None] = {}
    seen: set[Any] = set()
    todo = [] if output is None else [output.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in nodes:
            makers.setdefault(nodes[node])
        else:
            todo += [source for source, _ in node.next_functions]
    told = head not in order or head in nodes.values()
    return list(order), [name for name in order if name in makers and told]


def _caller(model: nn.Module, name: str) -> nn.Module:
    """Return the module whose call computes a layer: attention calls not its own projection."""
    parent = name.rpartition(".")[0]
    above = model.get_submodule(parent)
    return above if isinstance(above, nn.MultiheadAttention) else model.get_submodule(name)


def _first(output: Any) -> Tensor | None:
    if isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None
