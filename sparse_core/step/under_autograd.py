"""A network's passes under autograd, each of them one tape.

To autograd the whole network is one function, whose forward and backward pass run a `Chain` in
memory that it keeps. Outputs and gradients are tensors like any other: any loss, any optimizer and
whoever looks at `.grad` may use them. Outputs and small gradients are copied; large gradients stay
where they are, as long as nobody keeps those of the last pass when the next one comes. Several
forward passes may wait for their backward passes, each in a chain of its own.

Growth gets to see what it asks for. Derivatives of gradients and batches of gradients are left to
the network's own passes.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._autograd import _get_current_graph_task_keep_graph
from torch._C._functorch import is_legacy_batchedtensor
from torch.nn.modules.module import _has_any_global_hook

from sparse_core.kernels import unchecked
from sparse_core.kernels.buffers import empty
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.passing import watched
from sparse_core.layers.pieces import in_pieces
from sparse_core.layers.torch_path import looked_into, opaque
from sparse_core.step.chain import Chain
from sparse_core.step.layers import CannotCompile, Weights
from sparse_core.step.shape import Array, Shape, zeros

MOST_SHAPES = 8
"""Counts of tiles, of those asked for last, whose chains are kept."""

MOST_IDLE = 2
"""Idle chains of one count that are kept."""

LENT = 8192
"""Gradients from which on they are not copied."""

MOST_DENSE = 1 << 22
"""Samples times weights up to which a layer that is not condensed is run by kernels."""

Key = tuple[int, int, int]


class Passes:
    """Computes a network for training, where it can.

        passes = Passes(net, "net")
        out = passes(x)
        if out is None:
            out = net(x)

    Args:
        network: Layers that follow each other; see `Chain` for those it knows.
        name: Of the network, for messages.

    Attributes:
        reason: Why it did not compute its last batch for something in the network; None: it did,
            or something in that call alone was unusual.
        refuses: Whether it will compute none, until `reconsider` is called.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        self._network, self._name = network, name
        self._idle: OrderedDict[Key, list[_Ready]] = OrderedDict()
        self._unsuited: dict[Key, str] = {}
        self.reconsider()

    def reconsider(self) -> None:
        """Look at the network anew: it may have become something else."""
        self._idle.clear()
        self._unsuited.clear()
        self.reason: str | None = None
        self.refuses = not any(
            isinstance(part, CondensedLinear) for part in self._network.modules()
        )
        if self.refuses:
            self.reason = "no layer is condensed"

    @opaque
    def __call__(self, x: Tensor) -> Tensor | None:
        """Return what the network makes of a batch; None: it has to do that itself.

        Args:
            x: `(batch, features)`, or `(batch, ...)` if the network begins with `nn.Flatten`.
        """
        if self.refuses or not _is_usual(x):
            return None
        ready = self._take(len(x))
        if ready is None:
            return None
        chain = ready.chain
        rows = x.flatten(1) if chain.flattens and x.dim() > 2 else x
        if rows.dim() != 2 or rows.shape[1] != chain.in_features or ready.is_watched():
            self.give(ready)
            return None
        out = _Network.apply(rows, self, ready, *ready.parameters)  # type: ignore[no-untyped-call]
        return cast(Tensor, out)

    def own(self, x: Tensor) -> Tensor:
        """Return what the network itself makes of a batch."""
        return cast(Tensor, self._network(x))

    def give(self, ready: _Ready) -> None:
        """Take a chain back that is not in use any more."""
        idle = self._idle.get(_key(ready.chain.shape))
        if idle is not None and len(idle) < MOST_IDLE:
            idle.append(ready)

    def _take(self, batch: int) -> _Ready | None:
        shape = Shape.of(batch)
        key = _key(shape)
        idle = self._idle.get(key)
        try:
            if idle:
                self._idle.move_to_end(key)
                ready = idle.pop()
                if not ready.chain.holds():
                    if self._has_hooks():
                        return None
                    ready.bind()
                self.reason = None
                return ready
            self.reason = self._unsuited.get(key)
            if self.reason is not None or self._has_hooks():
                return None
            ready = _Ready(Chain(self._network, shape, self._name))
        except CannotCompile as error:
            self.reason, self.refuses = str(error), True
            self._idle.clear()
            return None
        if idle is None:
            self.reason = ready.why_not()
            if self.reason is not None:
                self._unsuited[key] = self.reason
                return None
            self._idle[key] = []
            if len(self._idle) > MOST_SHAPES:
                self._idle.popitem(last=False)
        return ready

    def _has_hooks(self) -> bool:
        """Whether somebody has to see single modules; if it is none of us, it is the reason."""
        found = [module for module in self._network.modules() if watched(module)]
        foreign = [type(module).__name__ for module in found if not _hooked_by_us(module)]
        self.reason = f"{self._name} has hooks on a {foreign[0]}" if foreign else None
        return bool(found)


class _Ready:
    """A chain, and what autograd asks it for.

    Attributes:
        chain: The chain.
        parameters: What it trains.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._weights = [layer for layer in chain.layers if isinstance(layer, Weights)]
        self._lends: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
        self._list()

    def bind(self) -> None:
        """Read anew what has changed."""
        self.keep_off()
        chain = self.chain
        if chain.holds_tensors():
            moved = [layer for layer in self._weights if not layer.holds()]
            for layer in moved:
                layer.read_topology()
            chain.renew(moved)
        else:
            chain.bind()
        self._list()

    def _list(self) -> None:
        found = self.chain.gradients()
        self.parameters = [parameter for parameter, _ in found]
        self._held = [vars(layer.module) for layer in self._weights]
        self._gradients = [torch.from_numpy(array).view(p.shape) for p, array in found]
        whole = {id(each.of_values) for each in self._weights if _is_whole(each) and self._lends}
        self._lent = [array[:] if id(array) in whole else None for _, array in found]

    def keep_off(self) -> None:
        """Let gradients that somebody has kept be; from then on they are copied."""
        if _references(self._lent) > _IDLE:
            self._lends = False
            for layer in self._weights:
                layer.of_values = zeros(layer.of_values.size)
            self.chain.renew(self._weights)
            self._list()

    def gradients(self, wanted: Sequence[bool]) -> list[Tensor | None]:
        """Return the gradients of the parameters that are wanted."""
        found: list[Tensor | None] = []
        for gradient, lent, one in zip(self._gradients, self._lent, wanted, strict=True):
            if one:
                found.append(gradient.clone() if lent is None else torch.from_numpy(lent))
            else:
                found.append(None)
        return found

    def is_watched(self) -> bool:
        """Whether a layer has to compute by itself: for growth, or as a copy of another."""
        for layer, held in zip(self._weights, self._held, strict=True):
            tap = held.get("weight_tap")
            armed = tap is not None and tap.armed and not layer.condensed
            if armed or held.get("_lineage") is not None:
                return True
        return False

    def show(self, batch: int) -> None:
        """Show growth the inputs of layers, and the gradients of their outputs, if it asks."""
        for layer, held in zip(reversed(self._weights), reversed(self._held), strict=True):
            tap = held.get("weight_tap")
            if tap is not None and tap.armed:
                assert layer.signals is not None
                x, dy = (_unpack(signal, batch, self.chain) for signal in layer.signals)
                tap.receive_product(x, dy, layer.parameters[0])

    def why_not(self) -> str | None:
        """Return why the batch suits the modules' own passes better; None: it does not."""
        shape = self.chain.shape
        for layer in self._weights:
            if not layer.condensed and layer.values.size * shape.batch > MOST_DENSE:
                return f"a dense product suits {layer.name} with batches of {shape.batch}"
        patterns = [layer.read.pattern for layer in self._weights]
        if in_pieces(patterns, shape.tiles, shape.tile):
            return f"batches of {shape.batch} are computed in pieces"
        return None


def _is_whole(layer: Weights) -> bool:
    """Whether each entry of a large gradient is written in each pass."""
    pattern, size = layer.pattern, layer.of_values.size
    alone = layer.condensed and layer.read.trained is pattern
    return alone and pattern.size == size >= LENT and pattern.out_features % pattern.group == 0


def _references(arrays: Sequence[Array | None]) -> int:
    """Return the most references that there are to one of some arrays."""
    return max([sys.getrefcount(array) for array in arrays if array is not None], default=0)


_IDLE = _references([np.empty(1, np.float32)])
"""Those to an array to which its list alone refers."""


def _hooked_by_us(module: nn.Module) -> bool:
    """Whether all hooks of a module are there for growth, for as long as it looks on."""
    kinds = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    hooks = [hook for kind in kinds for hook in kind.values()]
    return all(
        (getattr(hook, "__module__", None) or "").startswith("sparse_core.") for hook in hooks
    )


def _key(shape: Shape) -> Key:
    return shape.tile, shape.tiles, shape.threads


def _is_usual(x: Tensor) -> bool:
    """Whether a batch, and what torch does with it, is as in any training loop."""
    return (
        type(x) is Tensor
        and torch.is_grad_enabled()
        and x.dtype is torch.float32
        and x.is_cpu
        and x.layout is torch.strided
        and not x.is_neg()
        and x.dim() >= 2
        and x.numel() > 0
        and not x.is_inference()
        and not looked_into()
        and not torch.is_anomaly_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not _has_any_global_hook()  # type: ignore[no-untyped-call]
    )


class _Lease:
    """A chain in use, from a forward pass until its graph is gone or was used for the last time."""

    def __init__(self, passes: Passes, ready: _Ready) -> None:
        self.passes, self.ready = passes, ready
        self._over = False

    def end(self) -> None:
        """Give the chain back."""
        if not self._over:
            self._over = True
            self.passes.give(self.ready)

    def __del__(self) -> None:
        self.end()


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, passes: Passes, ready: _Ready, *parameters: Tensor
    ) -> Tensor:
        # Autograd then sees what is changed in place. The chain reads a copy of the input.
        ctx.save_for_backward(*([rows] if rows.requires_grad else []), *parameters)
        ctx.lease, ctx.data, ctx.version = _Lease(passes, ready), rows.detach(), rows._version
        chain = ready.chain
        _pack(ctx.data, chain.given, chain)
        return _unpack(chain.forward(), len(rows), chain)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved, needed, ready = ctx.saved_tensors, ctx.needs_input_grad, ctx.lease.ready
        if (
            torch.is_grad_enabled()
            or looked_into()
            or is_legacy_batchedtensor(gradient)
            or ready.is_watched()
        ):
            return _by_network(ctx, saved, gradient)
        chain, wanted = ready.chain, needed[3:]
        ready.keep_off()
        _pack(gradient, chain.signal, chain)
        signal = chain.backward(train=any(wanted), first=0 if needed[0] else None)
        if any(wanted):
            ready.show(len(gradient))
        of_input = None if signal is None else _unpack(signal, len(gradient), chain)
        found = ready.gradients(wanted)
        if not _get_current_graph_task_keep_graph():
            ctx.lease.end()
        return (of_input, None, None, *found)


def _by_network(ctx: Any, saved: Sequence[Tensor], gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients by the network's own passes, which are made anew.

    Raises:
        RuntimeError: If the input was changed in place since.
    """
    needed = ctx.needs_input_grad
    if ctx.data._version != ctx.version:
        raise RuntimeError(
            "the input of a compiled network has been modified by an inplace operation since its "
            "forward pass, which has to be made anew"
        )
    tensors = list(saved if needed[0] else (ctx.data, *saved))
    wanted = [needed[0], *needed[3:]]
    asked = [tensor for tensor, one in zip(tensors, wanted, strict=True) if one]
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        out = ctx.lease.passes.own(tensors[0])
    found = iter(torch.autograd.grad(out, asked, gradient, create_graph=again, allow_unused=True))
    first, *others = (next(found) if one else None for one in wanted)
    return (first, None, None, *others)


def _pack(rows: Tensor, out: Array, chain: Chain) -> None:
    unchecked.pack(rows.contiguous().numpy(), out, chain.shape.threads)


def _unpack(blocked: Array, batch: int, chain: Chain) -> Tensor:
    out = empty(batch, blocked.shape[1])
    unchecked.unpack(blocked, out, chain.shape.threads)
    return torch.from_numpy(out)
