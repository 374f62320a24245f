"""What two processes do for `test_ranks`: they train one network together, each on half a batch."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sparse_core import Engine, SparseConfig, sparsify

SIZES = (6, 8, 8, 4)
STEPS = 6

METHODS: dict[str, dict[str, Any]] = {
    "static": dict(method="static"),
    "set": dict(method="set"),
    "set condensed": dict(method="set", backend="condensed"),
    "set importance": dict(method="set", drop="sensitivity", growth="importance"),
    "rigl": dict(method="rigl"),
    "rigl condensed": dict(method="rigl", backend="condensed"),
    "rigl in blocks": dict(method="rigl", backend="condensed"),
    "rigl mean": dict(method="rigl", gradient_steps=2),
    "rigl mean condensed": dict(method="rigl", gradient_steps=2, backend="condensed"),
    "rigl momentum": dict(method="rigl", growth="momentum"),
    "rigl momentum condensed": dict(method="rigl", growth="momentum", backend="condensed"),
    "rigl closure": dict(method="rigl"),
    "rigl clipped": dict(method="rigl", growth="adam_momentum"),
    "srigl": dict(method="srigl", ablation_threshold=0.9, drop_fraction=0.6),
    "srigl condensed": dict(
        method="srigl", ablation_threshold=0.9, drop_fraction=0.6, backend="condensed"
    ),
    "srigl without ablation": dict(method="srigl", ablation=False),
    "snfs": dict(method="snfs"),
    "gse": dict(method="gse", scope="global"),
    "gse grabo": dict(method="gse", growth="sampled_grabo"),
    "gse grabo condensed": dict(method="gse", growth="sampled_grabo", backend="condensed"),
    "gse graest": dict(method="gse", growth="sampled_graest"),
    "gse graest mean": dict(method="gse", growth="sampled_graest", gradient_steps=2),
    "mest": dict(method="mest"),
    "granet": dict(method="granet", horizon=STEPS, stop_at=1.0),
    "gmp": dict(method="gmp", drop="sensitivity", scope="global", horizon=STEPS, stop_at=1.0),
    "topkast": dict(method="topkast"),
    "sr_ste": dict(method="sr_ste", structure="2:4"),
    "wsn": dict(method="wsn"),
    "edge_popup": dict(method="edge_popup"),
}


def network(name: str, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer, Engine]:
    """A sparse network in double precision."""
    torch.manual_seed(0)
    layers = [nn.Linear(n, m) for n, m in pairwise(SIZES)]
    net = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2]).double()
    fields = dict(sparsity=0.5, update_every=2, distribution="uniform", seed=seed) | METHODS[name]
    engine = sparsify(net, SparseConfig(**fields))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    engine.attach(optimizer)
    return net, optimizer, engine


def batch(step: int, rank: int | None = None) -> Tensor:
    """The data of a step, or a rank's half of them."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, SIZES[0], generator=generator, dtype=torch.float64)
    return x if rank is None else x.chunk(2)[rank]


def result(engine: Engine) -> dict[str, Any]:
    """What ranks are to have in common."""
    state = {name: value.clone() for name, value in engine.root.state_dict().items()}
    masks = [tensor.active() for tensor in engine.tensors]
    return dict(state=state, masks=masks, updates=engine.updates, sparsity=engine.sparsity)


def train(
    name: str,
    run: nn.Module,
    optimizer: torch.optim.Optimizer,
    rank: int | None,
    steps: range = range(STEPS),
) -> None:
    """Train a network, which may be wrapped."""
    for step in steps:

        def closure(step: int = step) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = 8 * (run(batch(step, rank)) - 0.5).pow(2).mean()
            loss.backward()
            return loss

        if name == "rigl closure":
            optimizer.step(closure)  # type: ignore[arg-type]
            continue
        closure()
        if name == "rigl clipped":
            nn.utils.clip_grad_norm_(run.parameters(), 0.5)
        optimizer.step()


@contextlib.contextmanager
def way(name: str) -> Iterator[None]:
    """Look at the layers of one case a few rows at a time."""
    below = 0 if name == "rigl in blocks" else 1 << 24
    with (
        patch("sparse_core.weights.condensed.BLOCKS_ABOVE", below),
        patch("sparse_core.kernels.topk.BLOCK_ELEMENTS", 16),
    ):
        yield


def alone(name: str) -> dict[str, Any]:
    """One process on whole batches."""
    with way(name):
        net, optimizer, engine = network(name)
        train(name, net, optimizer, None)
        return result(engine)


def wrapped(name: str, rank: int | None, **kwargs: Any) -> dict[str, Any]:
    """One of two ranks on half batches."""
    with way(name):
        net, optimizer, engine = network(name)
        train(name, DistributedDataParallel(net, **kwargs), optimizer, rank)
        return result(engine)


class Heads(nn.Module):
    """A trunk and two heads, of which a rank may use one."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.left, self.right = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, right: bool) -> Tensor:
        x = self.trunk(x).tanh()
        return (self.right if right else self.left)(x)


class Outer(nn.Module):
    """A module around the sparse one."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Any) -> Any:
        return self.net(*inputs)


def heads(rank: int, use: tuple[bool, bool], rows: int, **fields: Any) -> dict[str, Any]:
    """Two ranks, each with a head and a number of samples of its own."""
    torch.manual_seed(0)
    net = Heads().double()
    config = SparseConfig(**dict(sparsity=0.5, update_every=2, distribution="uniform") | fields)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    engine = sparsify(net, config, optimizer)
    before = [tensor.active() for tensor in engine.tensors]
    run = DistributedDataParallel(Outer(net), find_unused_parameters=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for step in range(4):
            optimizer.zero_grad()
            run(batch(step, rank)[: rows if rank else None], use[rank]).pow(2).mean().backward()
            optimizer.step()
    said = [str(w.message) for w in told if "keeps its topology" in str(w.message)]
    return result(engine) | dict(before=before, said=said)


def united(rank: int) -> dict[str, Any]:
    """A loop that averages gradients itself."""
    net, optimizer, engine = network("rigl")
    engine.unite()
    for step in range(STEPS):
        optimizer.zero_grad()
        (8 * (net(batch(step, rank)) - 0.5).pow(2).mean()).backward()
        for parameter in net.parameters():
            assert parameter.grad is not None
            dist.all_reduce(parameter.grad)
            parameter.grad /= 2
        optimizer.step()
    return result(engine)


def different(rank: int) -> dict[str, Any]:
    """Ranks with seeds of their own are refused before their first step."""
    net, optimizer, engine = network("rigl", seed=rank)
    run = DistributedDataParallel(net)
    said = ""
    try:
        train("rigl", run, optimizer, rank)
    except ValueError as error:
        said = str(error)
    return result(engine) | dict(said=said)


def late(rank: int) -> dict[str, Any]:
    """What is wrapped already can become sparse, but not get new parameters."""
    said = []
    for fields in (dict(backend="condensed"), dict(backend="auto"), dict(method="wsn")):
        torch.manual_seed(0)
        run = DistributedDataParallel(nn.Linear(6, 4).double())
        for module in (run, run.module):
            try:
                sparsify(module, SparseConfig(**fields))
            except ValueError as error:
                said.append(str(error))
    optimizer = torch.optim.Adam(run.parameters(), lr=0.02)
    engine = sparsify(run, SparseConfig(sparsity=0.5, update_every=2), optimizer)
    train("rigl", run, optimizer, rank)
    return result(engine) | dict(said=said)


def apart(rank: int) -> dict[str, Any]:
    """Each rank trains a network of its own, in a group of one or without any wrapper."""
    groups = [dist.new_group([0]), dist.new_group([1])]
    found = {}
    for name in ("rigl", "gse grabo condensed", "srigl"):
        for group in (None, groups[rank]):
            net, optimizer, engine = network(name)
            run = net if group is None else DistributedDataParallel(net, process_group=group)
            train(name, run, optimizer, rank)
            found[name, group is None] = result(engine)
    return found


def work(rank: int, folder: str) -> None:
    """Be one of the two ranks, and leave what came out in the folder."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    place = Path(folder)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{place / 'store'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=90),
    )
    found: dict[Any, Any] = {}
    for name in METHODS:
        for exchanged in (True, False):
            found[name, exchanged] = wrapped(name, rank, broadcast_buffers=exchanged)
    found["one head each"] = heads(rank, (False, True), 4, method="rigl")
    found["one head for both"] = heads(rank, (False, False), 4, method="rigl")
    found["one head each, samples"] = heads(
        rank, (False, True), 3, method="gse", growth="sampled_graest"
    )
    found["fewer samples"] = heads(rank, (False, False), 1, method="gse", growth="sampled_grabo")
    found["united"] = united(rank)
    found["different"] = different(rank)
    found["late"] = late(rank)
    found["apart"] = apart(rank)
    torch.save(found, place / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
