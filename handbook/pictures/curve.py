"""Returns of SAC on Pendulum against seconds of training, dense and at 90 %."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from handbook.pictures.style import ACTIVE, DROPPED, GROWN, figure, save
from sweeps.cli import main as dst
from sweeps.language.grid import load_grid

RUNS = Path(__file__).resolve().parents[2] / "runs"
COLOURS = {"dense": DROPPED, "rigl": GROWN, "srigl": ACTIVE}
GRID = """
name: picture_curve
kind: rl
base: {algo: sac, env: Pendulum-v1, steps: 4_000, eval_every: 200, eval_episodes: 5,
        max_seconds: 100_000, sparse.sparsity: 0.9, sparse.group: 4}
grid: {sparse.method: [srigl]}
include: [{sparse.method: dense, sparse.group: 1}, {sparse.method: rigl, sparse.group: 1}]
seeds: 3
"""


def draw(folder: Path) -> None:
    """Do what is left of nine runs in `runs/picture_curve`, and draw `learning_curve.svg`."""
    with TemporaryDirectory() as place:
        file = Path(place) / "grid.yaml"
        file.write_text(GRID, encoding="utf-8")
        if dst(["sweep", "run", str(file), "--runs-dir", str(RUNS)]):
            raise SystemExit("picture_curve: some runs have failed")
        grid = load_grid(str(file))
    drawn = figure(6.4, 3.4)
    axes = drawn.subplots()
    for method, colour in COLOURS.items():
        curves = [
            json.loads((RUNS / grid.name / run.run_id / "result.json").read_text())["curve_seconds"]
            for run in grid.runs
            if run.spec.sparse.method == method
        ]
        seconds, returns = np.moveaxis(np.array(curves), -1, 0)
        axes.plot(seconds.T, returns.T, color=colour, linewidth=0.6, alpha=0.5)
        axes.plot(seconds.mean(0), returns.mean(0), color=colour, linewidth=2, label=method)
    axes.set(xlabel="CPU seconds of training, evaluation apart", ylabel="evaluation return")
    axes.legend()
    save(drawn, folder / "learning_curve.svg")
