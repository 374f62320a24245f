"""The contestants of the kernel benchmark: what is called in each case, by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from sparse_core.kernels import (
    Lookup,
    Pattern,
    linear,
    linear_backward,
    linear_forward,
)
from sparse_core.kernels import (
    checked as checked,
)
from sparse_core.kernels.buffers import empty
from sweeps.bench.command import Calls
from sweeps.bench.peers import sparselab_layer, sparseprop_layer


def random_pattern(inputs: int, outputs: int, sparsity: float, group: int) -> Pattern:
    """Return a random pattern of constant fan-in."""
    rng = np.random.default_rng(0)
    fan_in = max(1, round(inputs * (1 - sparsity)))
    groups = -(-outputs // group)
    columns = [np.sort(rng.choice(inputs, fan_in, replace=False)) for _ in range(groups)]
    lengths = np.full(groups, fan_in)
    return Pattern.from_lengths(np.concatenate(columns), lengths, inputs, outputs, group)


def as_csr(matrix: NDArray[np.float32]) -> torch.Tensor:
    """Return torch's CSR form of a matrix, without its warning that this is new."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.from_numpy(matrix).to_sparse_csr()


class Layer:
    """A layer of one shape and sparsity, its data, and its contestants."""

    def __init__(
        self, inputs: int, outputs: int, batch: int, sparsity: float, groups: tuple[int, ...]
    ) -> None:
        rng = np.random.default_rng(1)
        self.patterns = {g: random_pattern(inputs, outputs, sparsity, g) for g in groups}
        self.values = {
            g: rng.standard_normal(p.size).astype(np.float32) for g, p in self.patterns.items()
        }
        self.bias: NDArray[np.float32] = np.zeros(outputs, np.float32)
        # Memory of torch is aligned, as it is wherever a layer is called from torch.
        self.x = torch.randn(batch, inputs)
        self.dy = torch.randn(batch, outputs)
        self.dense = torch.nn.Linear(inputs, outputs)
        self.half = torch.nn.Linear(inputs, max(1, outputs // 2))
        first = next(iter(groups))
        self.matrix = self.patterns[first].expand(self.values[first])

    def work(self, calls: Iterable[str], products: int) -> dict[str, float]:
        """Return the useful operations of some products of each contestant, by name."""
        batch = self.x.shape[0]
        weights = {
            "dense": self.dense.weight.numel(),
            "half_width": self.half.weight.numel(),
            **{f"{name}:{g}": p.nnz for name in ("condensed", "condensed_gather")
               for g, p in self.patterns.items()},
        }  # fmt: skip
        others = np.count_nonzero(self.matrix)
        return {name: 2.0 * products * batch * weights.get(name, others) for name in calls}

    def inference(self, threads: int = 1) -> Calls:
        """Return forward passes without gradients."""
        x, xs = self.x, self.x.numpy()
        csr = as_csr(self.matrix)
        scipy_csr = scipy.sparse.csr_matrix(self.matrix)

        def without_grad(module: torch.nn.Module) -> Callable[[], object]:
            def call() -> object:
                with torch.no_grad():
                    return module(x)

            return call

        calls: Calls = {"dense": without_grad(self.dense), "half_width": without_grad(self.half)}
        calls["torch_csr"] = lambda: csr @ x.t()
        calls["scipy_csr"] = lambda: scipy_csr @ xs.T
        for g in self.patterns:
            calls[f"condensed:{g}"] = self._condensed(linear, g, xs, threads)
        return calls

    def _condensed(
        self, function: Callable[..., object], g: int, xs: NDArray[Any], threads: int
    ) -> Callable[[], object]:
        pattern, values, bias = self.patterns[g], self.values[g], self.bias
        return lambda: function(pattern, values, xs, bias, threads=threads)

    def one_sample(self, threads: int = 1) -> Calls:
        """Return products with one sample, called from Python."""
        x = self.x[0].contiguous()
        csr = as_csr(self.matrix)
        narrow = torch.sparse_csr_tensor(
            csr.crow_indices().int(), csr.col_indices().int(), csr.values(), csr.shape,
            check_invariants=True,
        )  # fmt: skip
        scipy_csr, xs = scipy.sparse.csr_matrix(self.matrix), x.numpy()
        calls: Calls = {
            "dense": lambda: torch.nn.functional.linear(x, self.dense.weight, self.dense.bias),
            "half_width": lambda: torch.nn.functional.linear(x, self.half.weight, self.half.bias),
            "torch_csr": lambda: csr @ x,
            "torch_csr_int32": lambda: narrow @ x,
            "scipy_csr": lambda: scipy_csr @ xs,
        }
        for parameter in (*self.dense.parameters(), *self.half.parameters()):
            parameter.requires_grad_(False)
        for g, pattern in self.patterns.items():
            calls[f"condensed:{g}"] = self._condensed(checked.gemv, g, xs, threads)
            if Lookup.suits(pattern):
                calls[f"condensed_gather:{g}"] = calls[f"condensed:{g}"]
                calls[f"condensed:{g}"] = self._lookup(g, xs, threads)
        return calls

    def _lookup(self, g: int, xs: NDArray[Any], threads: int) -> Callable[[], object]:
        lookup, bias = Lookup(self.patterns[g]), self.bias
        lookup.refresh(self.values[g])
        return lambda: lookup.gemv(xs, bias, threads=threads)

    def training(self, threads: int = 1, peers: bool = True) -> Calls:
        """Return forward and backward passes, with gradients of input, weights and bias."""
        dy = self.dy
        calls: Calls = {
            "dense": _step(self.dense, self.x, dy),
            "half_width": _step(self.half, self.x, dy[:, : self.half.out_features].contiguous()),
            "torch_csr": self._torch_csr(),
            "scipy_csr": self._scipy_csr(),
        }
        if peers:
            calls.update(self._peers())
        for g in self.patterns:
            calls[f"condensed:{g}"] = self.condensed_step(g, threads)
        return calls

    def products(self, threads: int = 1) -> dict[str, Calls]:
        """Return the three products of a training step, each on its own, inputs packed before."""
        x, dy, weight = self.x, self.dy, self.dense.weight.detach()
        batch, dy_t = x.shape[0], dy.t()
        calls: dict[str, Calls] = {
            "y": {"dense": lambda: torch.mm(x, weight.t())},
            "dx": {"dense": lambda: torch.mm(dy, weight)},
            "dw": {"dense": lambda: torch.mm(dy_t, x)},
        }
        tiles, dy_tiles = checked.pack(x.numpy()), checked.pack(dy.numpy())
        for g, pattern in self.patterns.items():
            values, out = self.values[g], empty(self.values[g].size)
            y, dx = np.empty_like(dy_tiles), np.empty_like(tiles)
            common: Any = dict(batch=batch, threads=threads)
            calls["y"][f"condensed:{g}"] = partial(
                checked.forward, pattern, values, tiles, bias=self.bias, out=y, **common
            )
            calls["dx"][f"condensed:{g}"] = partial(
                checked.grad_input, pattern, values, dy_tiles, out=dx, **common
            )
            calls["dw"][f"condensed:{g}"] = partial(
                checked.grad_values, pattern, tiles, dy_tiles, out=out, **common
            )
        return calls

    def condensed_step(self, g: int, threads: int) -> Callable[[], object]:
        """Return a forward and backward pass of ours, packing included."""
        pattern, values, bias = self.patterns[g], self.values[g], self.bias
        x, dy = self.x.numpy(), self.dy.numpy()

        def call() -> object:
            _, saved = linear_forward(pattern, values, x, bias, threads=threads)
            return linear_backward(pattern, values, saved, dy, threads=threads)

        return call

    def _torch_csr(self) -> Callable[[], object]:
        csr = as_csr(self.matrix)
        transposed = as_csr(np.ascontiguousarray(self.matrix.T))
        x, dy = self.x, self.dy
        zeros = torch.sparse_csr_tensor(
            csr.crow_indices(), csr.col_indices(), torch.zeros_like(csr.values()), csr.shape,
            check_invariants=True,
        )  # fmt: skip

        def call() -> object:
            y = csr @ x.t()
            dx = transposed @ dy.t()
            dw = torch.sparse.sampled_addmm(zeros, dy.t(), x)
            return y, dx, dw, dy.sum(0)

        return call

    def _scipy_csr(self) -> Callable[[], object]:
        csr = scipy.sparse.csr_matrix(self.matrix)
        transposed = scipy.sparse.csr_matrix(self.matrix.T)
        rows, columns = self.matrix.nonzero()
        x, dy = self.x.numpy(), self.dy.numpy()
        # SciPy has no sampled product: the dense gradient, of which the weights' part is taken.
        return lambda: (csr @ x.T, transposed @ dy.T, (dy.T @ x)[rows, columns], dy.sum(0))

    def _peers(self) -> Calls:
        """Return the other libraries of sparse training, as far as they are installed."""
        calls: Calls = {}
        outputs, inputs = self.matrix.shape
        density = np.count_nonzero(self.matrix) / self.matrix.size
        dense = torch.nn.Linear(inputs, outputs)
        dense.weight.data.copy_(torch.from_numpy(self.matrix))
        peers = {
            "sparselab": sparselab_layer(inputs, outputs, 1 - density),
            "sparseprop": sparseprop_layer(dense),
        }
        for name, layer in peers.items():
            if layer is not None:
                calls[name] = _step(layer, self.x, self.dy)
        return calls


def _step(module: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor) -> Callable[[], object]:
    """Return a forward and backward pass of a module; its gradients are new every time."""
    x = x.clone().requires_grad_()
    parameters = list(module.parameters())

    def call() -> object:
        x.grad = None
        for parameter in parameters:
            parameter.grad = None
        y = module(x)
        y.backward(dy)
        return y

    return call


class Chain:
    """Three layers with ReLU between them, dense and condensed."""

    def __init__(self, width: int, batch: int, sparsity: float, groups: tuple[int, ...]) -> None:
        layers: list[torch.nn.Module] = []
        for i in range(3):
            layers += [torch.nn.Linear(width, width)] + ([torch.nn.ReLU()] if i < 2 else [])
        self.dense = torch.nn.Sequential(*layers)
        self.x, self.dy = torch.randn(batch, width), torch.randn(batch, width)
        self.layers = {
            g: [Layer(width, width, 1, sparsity, (g,)) for _ in range(3)] for g in groups
        }

    def training(self, threads: int = 1) -> Calls:
        """Return forward and backward passes, with gradients of input, weights and biases."""
        calls: Calls = {"dense": _step(self.dense, self.x, self.dy)}
        for g in self.layers:
            calls[f"condensed:{g}"] = self._condensed(g, threads)
        return calls

    def work(self, calls: Iterable[str]) -> dict[str, float]:
        """Return the useful operations of forward and backward passes, by contestant."""
        once = {"dense": 3 * self.layers[next(iter(self.layers))][0].dense.weight.numel()}
        once |= {f"condensed:{g}": sum(layer.patterns[g].nnz for layer in layers)
                 for g, layers in self.layers.items()}  # fmt: skip
        return {name: 2.0 * 3 * self.x.shape[0] * once[name] for name in calls}

    def _condensed(self, g: int, threads: int) -> Callable[[], object]:
        layers = self.layers[g]
        x, dy, batch = self.x.numpy(), self.dy.numpy(), self.x.shape[0]

        def call() -> object:
            h = checked.pack(x, threads=threads)
            signals = [h]
            for i, layer in enumerate(layers):
                relu = i < len(layers) - 1
                h = checked.forward(
                    layer.patterns[g], layer.values[g], h, batch, layer.bias,
                    relu=relu, threads=threads,
                )  # fmt: skip
                signals.append(h)
            gradients: list[object] = [checked.unpack(h, batch, threads=threads)]
            d = checked.pack(dy, threads=threads)
            for i, layer in reversed(list(enumerate(layers))):
                if i < len(layers) - 1:
                    d = checked.activate_backward("relu", d, signals[i + 1], out=d, threads=threads)
                pattern, values = layer.patterns[g], layer.values[g]
                db = empty(pattern.out_features)
                dw = checked.grad_values(
                    pattern, signals[i], d, batch, bias_out=db, threads=threads
                )
                gradients += [dw, db]
                d = checked.grad_input(pattern, values, d, batch, threads=threads)
            return [*gradients, checked.unpack(d, batch, threads=threads)]

        return call
