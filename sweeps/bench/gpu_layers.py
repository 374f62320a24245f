"""Contestants on a GPU: a layer by dense, CSR, 2:4 and condensed weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from sparse_core.export.semi_structured import why_unfit
from sparse_core.kernels.gpu.tuning import tune as tune_kernel
from sparse_core.layers.condensed import CondensedLinear, become_condensed
from sparse_core.layers.csr import become_csr
from sparse_core.layers.rows import Rows

Call = Callable[[], Tensor]

GROUPS = (1, 4, 8, 16, 32)


class Subject:
    """A linear layer without gradients of others' in its way, and a batch.

    Args:
        inputs: Its inputs.
        outputs: Its outputs.
        batch: Samples.
        sparsity: Fraction of inactive weights; rows have constant fan-in.
        device: Where all is.
    """

    def __init__(
        self, inputs: int, outputs: int, batch: int, sparsity: float, device: torch.device
    ) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.shape = outputs, inputs
        self.fan_in = max(1, round(inputs * (1 - sparsity)))
        self.device = device
        self.x = torch.randn(batch, inputs, generator=self.generator).to(device)

    def mask(self, group: int) -> Tensor:
        """Return an `(out, in)` bool mask of constant fan-in whose groups share their columns."""
        outputs, inputs = self.shape
        scores = torch.rand(-(-outputs // group), inputs, generator=self.generator)
        lead = torch.zeros_like(scores, dtype=torch.bool)
        lead.scatter_(1, scores.topk(self.fan_in, 1).indices, True)
        return lead.repeat_interleave(group, 0)[:outputs]

    def dense(self, mask: Tensor | None = None) -> nn.Linear:
        """Return a dense layer on the device, zero outside a mask."""
        outputs, inputs = self.shape
        layer = nn.Linear(inputs, outputs)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs, generator=self.generator))
            if mask is not None:
                layer.weight.mul_(mask)
        return layer.to(self.device)

    def condensed(self, group: int) -> CondensedLinear:
        """Return a condensed layer on the device."""
        mask = self.mask(group)
        layer = self.dense(mask)
        become_condensed(layer, mask.to(self.device), group=group)
        assert isinstance(layer, CondensedLinear)
        return layer


def forward_calls(subject: Subject) -> dict[str, Call]:
    """Return the forward passes to compare, by name; those that are impossible are left out."""
    found: dict[str, Call] = {}
    dense, x = subject.dense(), subject.x
    found["dense"] = _at("highest", dense, x)
    found["dense tf32"] = _at("high", dense, x)
    found["dense bf16"] = _at("highest", subject.dense().bfloat16(), x.bfloat16())
    sparse = subject.dense(subject.mask(1))
    rows = Rows.of_matrix(sparse.weight.detach().cpu().numpy(), (sparse.weight != 0).cpu().numpy())
    become_csr(sparse, rows)
    found["csr"] = _at("highest", sparse.to(subject.device), x)
    halves = two_of_four(subject)
    if halves is not None:
        found["2:4 bf16"] = _at("highest", halves, x.bfloat16())
    for group in GROUPS:
        layer = subject.condensed(group)
        found[f"condensed {group}"] = _at("highest", layer, x)
        if group >= 8:
            found[f"condensed {group} tf32"] = _at("high", layer, x)
        if subject.device.type != "cpu":
            found[f"condensed {group} bf16"] = _at(
                "highest", subject.condensed(group).bfloat16(), x.bfloat16()
            )
    return found


def two_of_four(subject: Subject) -> nn.Linear | None:
    """Return a layer with torch's 2:4 weights; None where they are impossible."""
    outputs, inputs = subject.shape
    pieces = torch.rand(outputs, inputs // 4, 4, generator=subject.generator)
    mask = pieces.argsort(2).argsort(2).lt(2).reshape(outputs, -1)
    if mask.shape[1] != inputs or subject.device.type == "cpu" or len(subject.x) % 8:
        return None
    layer = subject.dense(mask).bfloat16()
    if why_unfit(layer.weight) is not None:
        return None
    packed = to_sparse_semi_structured(layer.weight.detach())
    layer.weight = nn.Parameter(packed, requires_grad=False)
    return layer


def training_calls(subject: Subject) -> dict[str, Call]:
    """Return forward and backward passes of float32 layers to compare, by name."""
    layers: dict[str, nn.Module] = {"dense": subject.dense()}
    layers |= {f"condensed {group}": subject.condensed(group) for group in GROUPS}
    x = subject.x.clone().requires_grad_()

    def both(layer: nn.Module) -> Call:
        def call() -> Tensor:
            out: Tensor = layer(x)
            found = torch.autograd.grad(out, [x, *layer.parameters()], out.detach())
            return found[0]

        return call

    return {name: both(layer) for name, layer in layers.items()}


def _at(precision: str, layer: Any, x: Tensor) -> Call:
    """Return a forward pass without gradients, in a precision of float32 products."""

    @torch.no_grad()
    def call() -> Tensor:
        torch.set_float32_matmul_precision(precision)
        out: Tensor = layer(x)
        return out

    return call


def tune(subject: Subject) -> None:
    """Try the sizes of the kernels' blocks for a layer, and keep the best for its device."""
    from sparse_core.kernels.gpu import launch
    from sweeps.bench.gpu_clock import milliseconds

    name = torch.cuda.get_device_name(subject.device)
    batch = len(subject.x)
    for group in GROUPS:
        for dtype in (torch.float32, torch.bfloat16):
            layer = subject.condensed(group).to(dtype)
            assert isinstance(layer, CondensedLinear)
            index, values = layer.index, layer.values.detach()
            x = launch.turned(subject.x.to(dtype))
            dy = torch.randn(index.out_features, batch, device=subject.device).to(dtype)
            tiled = launch.uses_tensor_cores(group, values)
            kernels: dict[str, Call] = {
                "tile_products" if tiled else "products": partial(
                    launch.forward_of, index, values, x, None
                ),
                "tile_gradients" if tiled else "value_gradients": partial(
                    launch.value_gradient_of, index, x, dy, values.numel()
                ),
                "input_gradients": partial(launch.input_gradient_of, index, values, dy),
            }
            for kernel, call in kernels.items():
                tune_kernel(kernel, group, dtype, batch, name, partial(milliseconds, call, 20))
