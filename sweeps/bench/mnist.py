"""Learning on MNIST: an MLP 784-304-304-10, every structure, three sparsities, paired seeds.

    python -m sweeps.bench.mnist --data data --out docs/results/mnist_mlp.json

Adam 1e-3, batch 128, ERK, update every 100 steps, alpha 0.3, cosine until 75 % of the steps. Seed s
fixes initial weights and the order of the data for all methods alike. One thread. What is finished
is kept in the output file, so the command can be stopped and run again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparse_core import SparseConfig, sparsify
from sparse_core.checks import InputError
from sparse_core.config import BACKENDS
from sweeps.bench.command import exit_code, output, plain_parser, positive

METHODS: dict[str, dict[str, Any]] = {
    "static": {"method": "static"},
    "set": {"method": "set"},
    "rigl": {"method": "rigl"},
    "srigl": {"method": "srigl"},
    "srigl, no ablation": {"method": "srigl", "ablation": False},
    "srigl, group 2": {"method": "srigl", "group": 2},
    "srigl, group 4": {"method": "srigl", "group": 4},
    "srigl, group 8": {"method": "srigl", "group": 8},
}
SPARSITIES = (0.9, 0.95, 0.98)
WIDTHS = (784, 304, 304, 10)
BATCH = 128


def load(folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return normalised train images, labels, test images, labels; `folder` holds `MNIST/raw`."""

    def read(name: str, skip: int) -> np.ndarray:
        path = folder / "MNIST" / "raw" / name
        try:
            raw = path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()
        except (OSError, EOFError) as error:
            raise InputError(
                f"data={str(folder)!r}: must hold MNIST/raw/{name}, plain or as .gz",
                field="data",
            ) from error
        return np.frombuffer(raw, np.uint8, offset=skip)

    sets = []
    for part in ("train", "t10k"):
        images = read(f"{part}-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32)
        sets.append(torch.from_numpy((images / 255 - 0.1307) / 0.3081))
        sets.append(torch.from_numpy(read(f"{part}-labels-idx1-ubyte", 8).astype(np.int64)))
    return sets[0], sets[1], sets[2], sets[3]


def run(
    data: tuple[Tensor, Tensor, Tensor, Tensor], config: SparseConfig, seed: int, epochs: int
) -> dict[str, Any]:
    """Train once; return test accuracy in percent, live neurons and seconds."""
    images, labels, test_images, test_labels = data
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(WIDTHS):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    per_epoch = len(images) // BATCH
    engine = sparsify(net, config, optimizer)
    engine.set_horizon(epochs * per_epoch)
    order = torch.Generator().manual_seed(seed)
    began = time.perf_counter()
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=order)[: per_epoch * BATCH].split(BATCH):  # type: ignore[no-untyped-call]
            loss = nn.functional.cross_entropy(net(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    seconds = time.perf_counter() - began
    with torch.no_grad():
        correct = (net(test_images).argmax(1) == test_labels).float().mean().item()
    live = [int(tensor.active().any(1).sum()) for tensor in engine.tensors]
    return {
        "accuracy": round(100 * correct, 2),
        "sparsity": engine.sparsity,
        "live_neurons": live,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Run what is missing and print the table."""
    parser = plain_parser("sweeps.bench.mnist", __doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DST_DATA", "data")))
    parser.add_argument("--out", type=output, default=Path("docs/results/mnist_mlp.json"))
    parser.add_argument("--seeds", type=read_seed, nargs="+", default=range(5))
    parser.add_argument("--epochs", type=positive, default=10)
    parser.add_argument("--backend", choices=BACKENDS, default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load(arguments.data)
    try:
        done = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    except ValueError as error:
        parser.error(f"--out {arguments.out}: holds no JSON to go on with: {error}")
    for seed in arguments.seeds:
        cases: list[tuple[str, float, dict[str, Any]]] = [("dense", 0.0, {"method": "dense"})]
        cases += [(name, s, fields) for s in SPARSITIES for name, fields in METHODS.items()]
        for name, sparsity, fields in cases:
            key = f"{name} | {sparsity} | {seed}"
            if key in done:
                continue
            config = SparseConfig(sparsity=sparsity, seed=seed, backend=arguments.backend, **fields)
            done[key] = run(data, config, seed, arguments.epochs)
            print(key, done[key], flush=True)
            partial = arguments.out.with_suffix(".partial")
            partial.write_text(json.dumps(done, indent=1) + "\n")
            partial.replace(arguments.out)
    print(table(done))


def read_seed(text: str) -> int:
    """Read an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: must be an integer of at least 0")
    return int(text)


def table(done: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table of mean accuracy and the half-width of its 95 % t interval."""
    cells: dict[tuple[str, str], list[float]] = {}
    for key, result in done.items():
        name, sparsity, _ = key.split(" | ")
        cells.setdefault((name, sparsity), []).append(result["accuracy"])
    columns = sorted({sparsity for _, sparsity in cells})
    lines = ["| method | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for name in dict.fromkeys(name for name, _ in cells):
        row = [_interval(cells.get((name, column), [])) for column in columns]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _interval(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f} (n=1)" if values else ""
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.2f} ± {half:.2f} (n={len(values)})"


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.mnist", main))
