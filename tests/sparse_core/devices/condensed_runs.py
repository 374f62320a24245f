"""Condensed networks train on a device that is not the CPU; run this as a program.

Triton interprets the kernels: set TRITON_INTERPRET=1. Arguments are names of runs, all by default.
It prints a line of JSON: run -> why it failed, None if it did not. A run on the device must do what
it does on the CPU: the same topologies, weights up to the order of sums.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparse_core import Engine, SparseConfig, sparsify
from sparse_core.budgets import selection
from sparse_core.kernels.gpu import support
from sparse_core.layers.state import Condensed
from sparse_core.weights import condensed
from tests.sparse_core.devices import away

STEPS = 4
RUNS: dict[str, dict[str, Any]] = {
    "set": {"method": "set"},
    "rigl": {"method": "rigl"},
    "rigl, means": {"method": "rigl", "gradient_steps": 2},
    "rigl, mean states": {"method": "rigl", "optimizer_state": "layer_mean"},
    "rigl, 2:4": {"method": "rigl", "structure": "2:4"},
    "srigl": {"method": "srigl"},
    "srigl, groups": {"method": "srigl", "group": 4},
    "srigl, blocks": {"method": "srigl", "in_blocks": True},
    "rigl, blocks": {"method": "rigl", "in_blocks": True},
    "set, blocks": {"method": "set", "in_blocks": True},
    "mest": {"method": "mest", "slack": 0.2},
    "gse": {"method": "gse"},
    "granet": {"method": "granet"},
    "gmp": {"method": "gmp"},
    "rigl, resets": {"method": "rigl", "reset_dormant_every": 3, "dormant_threshold": 0.9},
    "embeddings": {"method": "srigl", "embeddings": True},
}


def network(embeddings: bool) -> nn.Sequential:
    """Return a network of layers that can be condensed, with fused activations."""
    first = nn.Embedding(7, 8, padding_idx=0) if embeddings else nn.Linear(8, 8)
    hidden = nn.Linear(8, 13), nn.ReLU(), nn.Linear(13, 10), nn.GELU(), nn.Linear(10, 4)
    return nn.Sequential(first, *hidden)


def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **sizes: Any) -> None:
    """Let Triton interpret a kernel on what tensors on the device hold."""
    if 0 not in grid:
        near = [item.near if isinstance(item, away.Away) else item for item in arguments]
        kernel[grid](*near, **sizes)


def train(changes: Mapping[str, Any], device: str) -> tuple[Engine, dict[str, Tensor]]:
    """Train a network and a target on a device; return its state on the CPU."""
    torch.manual_seed(0)
    settings = {"sparsity": 0.5, "update_every": 2, "horizon": STEPS, "stop_at": 1.0, **changes}
    blocks = settings.pop("in_blocks", False)
    condensed.BLOCKS_ABOVE = 0 if blocks else 1 << 24
    config = SparseConfig(backend="condensed", **settings)
    net, target = network(config.embeddings).to(device), network(config.embeddings).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, eps=0.01)
    engine = sparsify(net, config, optimizer)
    engine.follow(target)
    x = torch.randint(0, 7, (5,)) if config.embeddings else torch.randn(5, 8)
    x = x.to(device)
    for _ in range(STEPS):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        assert torch.allclose(target(x), target(x))
    net.load_state_dict(net.state_dict())
    return engine, {name: value.cpu() for name, value in net.state_dict().items()}


def outcome(changes: Mapping[str, Any], device: str = away.DEVICE) -> str | None:
    """Return why a run failed, or how it differs from the same on the CPU; None: neither."""
    try:
        engine, there = train(changes, device)
        twin, here = train(changes, "cpu")
        if not any(isinstance(t.layer, Condensed) for t in engine.tensors):
            return "nothing is condensed"
        differ = [name for name in here if not torch.allclose(here[name], there[name], atol=1e-5)]
        if differ:
            return f"differ from the CPU's: {', '.join(differ)}"
        engine.root.load_state_dict(here)
        twin.root.load_state_dict(there)
        engine.root.to("cpu")
        for tensor, other in zip(engine.tensors, twin.tensors, strict=True):
            assert torch.equal(tensor.active(), other.active())
        engine.root.to(device)
        engine.use_masks()
        for tensor, other in zip(engine.tensors, twin.tensors, strict=True):
            assert torch.equal(tensor.active().cpu(), other.active())
    except Exception:  # whatever it is, it is reported
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    from sparse_core.kernels.gpu import launch

    torch.set_num_threads(1)
    away.enable()
    vars(selection)["type"] = away.type_of
    support.DEVICES = ("away",)
    launch.start = start
    warnings.simplefilter("ignore")
    names = sys.argv[1:] or [*RUNS]
    print(json.dumps({name: outcome(RUNS[name]) for name in names}))
