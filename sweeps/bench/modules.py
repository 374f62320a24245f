"""The contestants of the layer benchmark: torch modules, and what is called in each case."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import nn

from sparse_core import Engine, SparseConfig, sparsify
from sparse_core.layers.condensed import CondensedLinear
from sweeps.bench.peers import sparselab_layer, sparseprop_layer

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


def contestants(
    widths: tuple[int, ...], sparsity: float, groups: tuple[int, ...], peers: bool = True
) -> dict[str, nn.Module]:
    """Return networks by name, `condensed:4` meaning group 4; `dense` comes first.

    Args:
        widths: Inputs, outputs of the first layer, and so on; ReLU is between layers.
        sparsity: Of all layers but those of `dense` and `half_width`.
        groups: Groups of condensed networks.
        peers: Whether networks of other libraries take part, where installed.
    """
    nets: dict[str, nn.Module] = {"dense": _mlp(widths)}
    nets["half_width"] = _mlp((widths[0], *(max(1, width // 2) for width in widths[1:])))
    nets["masked"] = _sparse(widths, sparsity, 1, "masked")
    for group in groups:
        nets[f"condensed:{group}"] = _sparse(widths, sparsity, group, "condensed")
    if peers:
        nets |= _peers(widths, sparsity)
    return nets


def _mlp(widths: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [nn.ReLU()] if i else []
        layers.append(nn.Linear(widths[i], widths[i + 1]))
    return nn.Sequential(*layers)


def _sparse(widths: tuple[int, ...], sparsity: float, group: int, backend: str) -> nn.Module:
    net = _mlp(widths)
    sparsify(
        net,
        SparseConfig(
            method="static",
            sparsity=sparsity,
            structure="constant_fan_in",
            group=group,
            distribution="uniform",
            backend=backend,
        ),
    )
    return net


def _peers(widths: tuple[int, ...], sparsity: float) -> dict[str, nn.Module]:
    """Return the networks of other libraries of sparse training, as far as they are installed."""
    layers: dict[str, list[nn.Module | None]] = {"sparselab": [], "sparseprop": []}
    for condensed in _sparse(widths, sparsity, 1, "condensed").children():
        if isinstance(condensed, CondensedLinear):
            dense = nn.Linear(condensed.in_features, condensed.out_features)
            dense.weight.data.copy_(condensed.dense_weight())
            shape = dense.in_features, dense.out_features
            layers["sparselab"].append(sparselab_layer(*shape, sparsity))
            layers["sparseprop"].append(sparseprop_layer(dense))
    found = {name: [layer for layer in made if layer is not None] for name, made in layers.items()}
    return {name: _with_relu(made) for name, made in found.items() if made}


def _with_relu(layers: list[nn.Module]) -> nn.Module:
    return nn.Sequential(*[step for layer in layers for step in (layer, nn.ReLU())][:-1])


def _outputs(net: nn.Module, batch: int, inputs: int) -> int:
    with torch.no_grad():
        return int(net(torch.zeros(batch, inputs)).shape[1])


def training(
    net: nn.Module, batch: int, widths: tuple[int, ...], *, adam: bool
) -> Callable[[], object]:
    """Return a forward and a backward pass; with a step of Adam instead of the input's gradient."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, widths[0], generator=generator)
    dy = torch.randn(batch, _outputs(net, batch, widths[0]), generator=generator)
    parameters = list(net.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-6) if adam else None
    x.requires_grad_(not adam)

    def call() -> object:
        x.grad = None
        for parameter in parameters:
            parameter.grad = None
        y = net(x)
        y.backward(dy)
        if optimizer is not None:
            optimizer.step()
        return y

    return call


def forward_work(nets: Mapping[str, nn.Module], batch: int) -> dict[str, float]:
    """Return the useful floating-point operations of a forward pass, by contestant."""
    return {name: 2.0 * batch * sum(active(nets, name)) for name in nets}


def training_work(
    nets: Mapping[str, nn.Module], batch: int, *, input_gradient: bool
) -> dict[str, float]:
    """Return those of a forward and a backward pass.

    Args:
        nets: What `contestants` returns.
        batch: Samples of a batch.
        input_gradient: Whether the gradient of the first layer's input is computed.
    """
    work = {}
    for name in nets:
        first, *others = active(nets, name)
        work[name] = 2.0 * batch * ((3 if input_gradient else 2) * first + 3 * sum(others))
    return work


def active(nets: Mapping[str, nn.Module], name: str) -> list[int]:
    """Return the active weights of each layer of a contestant."""
    net = nets[name]
    engine = getattr(net, "sparse_engine", None)
    if isinstance(engine, Engine):
        return [tensor.count() for tensor in engine.tensors]
    if name in ("dense", "half_width"):
        return [child.weight.numel() for child in net.children() if isinstance(child, nn.Linear)]
    return active(nets, "masked")


def inference(net: nn.Module, batch: int, inputs: int) -> Callable[[], object]:
    """Return a forward pass without gradients."""
    x = torch.randn(batch, inputs)

    def call() -> object:
        with torch.no_grad():
            return net(x)

    return call


def training_bytes(net: nn.Module, batch: int, widths: tuple[int, ...]) -> int:
    """Take a step with Adam and return the bytes of weights, indices, gradients and moments.

    Counted are the tensors of all parameters, buffers and optimizer states, and what the kernels
    keep beside them: each layer's pattern with its transposed index.
    """
    x = torch.randn(batch, widths[0], requires_grad=True)
    optimizer = torch.optim.Adam(net.parameters())
    net(x).sum().backward()
    optimizer.step()
    tensors = [*net.parameters(), *net.buffers()]
    tensors += [p.grad for p in net.parameters() if p.grad is not None]
    tensors += [t for state in optimizer.state.values() for t in state.values()]
    patterns = [m.pattern.nbytes for m in net.modules() if isinstance(m, CondensedLinear)]
    return sum(t.numel() * t.element_size() for t in tensors) + sum(patterns)
