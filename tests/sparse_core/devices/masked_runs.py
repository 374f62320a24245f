"""Every method trains a masked network on a device that is not the CPU; run this as a program.

Arguments are names of runs, all by default. It prints a line of JSON: run -> why it failed, None if
it did not. Its state must be that of the same run on the CPU, and each tensor that training makes
must be made where the weights are, or follow from the arguments in `EXCUSED`.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import sparse_core
from sparse_core import SparseConfig, sparsify
from sparse_core.budgets import selection
from sparse_core.registry import METHODS
from tests.sparse_core.devices import away

STEPS = 4
METHOD_RUNS: dict[str, dict[str, object]] = {
    name: {"method": name} | ({"structure": "2:4"} if facts.structures == ("N:M",) else {})
    for name, facts in METHODS.items()
    if facts.sparse
}
OTHER_RUNS: dict[str, dict[str, object]] = {
    "set, unfired": {"method": "set", "growth": "unfired"},
    "set, signed drop": {"method": "set", "drop": "signed"},
    "rigl, means": {"method": "rigl", "gradient_steps": 2},
    "rigl, kaiming": {"method": "rigl", "initialisation": "kaiming"},
    "rigl, states kept": {"method": "rigl", "optimizer_state": "keep"},
    "rigl, mean states": {"method": "rigl", "optimizer_state": "layer_mean"},
    "rigl, skipped steps": {"method": "rigl", "skip_step": True},
    "rigl, 2:4": {"method": "rigl", "structure": "2:4"},
    "rigl, blocks": {"method": "rigl", "structure": "2x2"},
    "rigl, neurons": {"method": "rigl", "structure": "neurons"},
    "rigl, momentum": {"method": "rigl", "growth": "momentum"},
    "rigl, adam momentum": {"method": "rigl", "growth": "adam_momentum"},
    "rigl, sensitivity": {"method": "rigl", "drop": "sensitivity"},
    "srigl, groups": {"method": "srigl", "group": 2},
    "srigl, sticky": {"method": "srigl", "ablation_sticky": True},
    "mest, slack": {"method": "mest", "slack": 0.2},
    "gse, grabo": {"method": "gse", "growth": "sampled_grabo"},
    "gse, graest": {"method": "gse", "growth": "sampled_graest"},
    "gse, global": {"method": "gse", "scope": "global"},
    "rigl, resets": {"method": "rigl", "reset_dormant_every": 3, "dormant_threshold": 0.9},
    "gmp, global": {"method": "gmp", "scope": "global"},
}
EXCUSED = {
    "patterns.py": "numbers of weights in each lane: the host asks for them",
    "places.py": "cells that a rule named are counted where they were drawn",
    "sampling.py": "samples are drawn on the CPU, so that all devices draw the same",
}
"""Files that may make tensors on the CPU without a generator."""
OURS = str(Path(sparse_core.__file__).parent)


class Network(nn.Module):
    """Every kind of layer that can be masked, or two linear ones."""

    def __init__(self, linear: bool) -> None:
        super().__init__()
        self.tokens = None if linear else nn.Embedding(7, 8, padding_idx=0)
        self.attention = None if linear else nn.MultiheadAttention(8, 2, batch_first=True)
        self.conv = None if linear else nn.Conv1d(8, 8, 3, padding=1)
        self.hidden = nn.Linear(8, 12)
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, 5)` int64, or `(batch, 5, 8)`, to `(batch, 5, 4)`."""
        if self.tokens is not None and self.attention is not None and self.conv is not None:
            x = self.tokens(x)
            x = x + self.attention(x, x, x, need_weights=False)[0]
            x = x + self.conv(x.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.out(F.relu(self.hidden(x)))
        return out


class Strays(TorchDispatchMode):
    """Remembers which lines of `sparse_core` make tensors on the CPU out of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: set[str] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = operation(*args, **(kwargs or {}))
        given = pytree.tree_leaves((args, kwargs))
        made = isinstance(out, Tensor) and not any(isinstance(item, Tensor) for item in given)
        if made and out.device.type == "cpu" and out.dim() and not (kwargs or {}).get("generator"):
            frame: FrameType | None = sys._getframe()
            while frame is not None and OURS not in frame.f_code.co_filename:
                frame = frame.f_back
            if frame is not None and Path(frame.f_code.co_filename).name not in EXCUSED:
                self.lines.add(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        return out


def train(changes: Mapping[str, object], device: str) -> dict[str, Tensor]:
    """Train a network and a target on a device, and return its state on the CPU."""
    torch.manual_seed(0)
    settings = {"sparsity": 0.5, "update_every": 2, "horizon": STEPS, "stop_at": 1.0, **changes}
    config = SparseConfig(**settings)  # type: ignore[arg-type]
    whole = config.structure_in_force in ("unstructured", "constant_fan_in") and config.group == 1
    linear = config.facts.samples or config.structure_in_force in ("neurons", "2x2")
    config = replace(config, embeddings=whole)
    net, target = Network(linear).to(device), Network(linear).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, eps=0.01)
    engine = sparsify(net, config, optimizer)
    follows = not config.facts.adds_parameters
    if follows:
        engine.follow(target)
    x = torch.randn(3, 5, 8) if linear else torch.randint(0, 7, (3, 5))
    x = x.to(device)
    for _ in range(STEPS):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if follows:
            for mine, theirs in zip(target.parameters(), net.parameters(), strict=True):
                mine.data.mul_(0.9).add_(theirs.data, alpha=0.1)
    net.load_state_dict(net.state_dict())
    return {name: value.cpu() for name, value in net.state_dict().items()}


def outcome(changes: Mapping[str, object], device: str = away.DEVICE) -> str | None:
    """Return why a run failed, or how it differs from the same on the CPU; None: neither."""
    try:
        with Strays() as strays:
            there = train(changes, device)
        here = train(changes, "cpu")
    except Exception:  # whatever it is, it is reported
        return traceback.format_exc()
    if strays.lines:
        return f"made on the CPU: {', '.join(sorted(strays.lines))}"
    differ = [name for name in here if not torch.allclose(here[name], there[name], atol=1e-5)]
    return f"differ from the CPU's: {', '.join(differ)}" if differ else None


def chosen(names: list[str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield names and configurations of runs."""
    every = METHOD_RUNS | OTHER_RUNS
    yield from ((name, every[name]) for name in names or every)


if __name__ == "__main__":
    torch.set_num_threads(1)
    away.enable()
    vars(selection)["type"] = away.type_of
    warnings.simplefilter("ignore")
    print(json.dumps({name: outcome(changes) for name, changes in chosen(sys.argv[1:])}))
