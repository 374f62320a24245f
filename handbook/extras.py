"""The table of optional parts, from `pyproject.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from handbook.tables import code, table

ROOT = Path(__file__).resolve().parents[1]
PLACE = "<!-- extras -->"
"""Where a page wants the table."""

PURPOSES = {
    "mujoco": "MuJoCo's environments: `HalfCheetah-v5`, `Hopper-v5`, ...",
    "render": "`dst enjoy`: episodes of CartPole, Pendulum and the like as a GIF",
    "minatar": "the small games of MinAtar, `worlds/minatar-...`",
    "atari": "Atari games, `ale_py:ALE/...`",
    "dask": "`dst sweep run --launcher dask`",
    "ray": "`dst sweep run --launcher ray`",
    "slurm": "`dst sweep run --launcher slurm`",
    "data": "results as tables of pandas, Parquet files",
    "tune": "`dst tune`",
    "tensorboard": "`--track tensorboard`",
    "wandb": "`--track wandb`",
    "mlflow": "`--track mlflow`",
    "contrib": "TQC, QR-DQN, TRPO, CrossQ, RecurrentPPO, MaskablePPO",
    "onnx": "`to_onnx`",
    "gpu": "condensed layers on a GPU",
    "peers": "`dst bench` beside other libraries",
    "docs": "this site, `make docs`",
    "dev": "tests and checks, `make test`",
}
"""Extra -> what one can do with it."""


def shown() -> str:
    """Return the table: each extra, what it is for, and the packages that it brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    rows = [
        (code(name), PURPOSES[name], ", ".join(map(code, wanted)))
        for name, wanted in extras.items()
    ]
    return table(("extra", "for", "packages"), rows)
