"""A kind of run that costs nothing and meets any fate, for tests of what surrounds runs."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sparse_core.checks import InputError

KIND = """
kinds:
  toy:
    spec: tests.sweeps.toys:ToySpec
    runner: tests.sweeps.toys:run
    title: Toys
    task: [task]
    score: final height (m)
    x: steps
    y: height (m)
"""

Fate = Literal[
    "fine",
    "raise",
    "diverge",
    "refuse",
    "refuse when written",
    "refuse in progress",
    "kill",
    "kill once",
    "hang",
    "nan",
    "exit",
    "leave",
    "print",
]


@dataclass(frozen=True)
class ToySparse:
    """How sparse."""

    method: str = "dense"
    sparsity: float = 0.0
    distribution: Literal["erk", "uniform"] = "erk"

    def __post_init__(self) -> None:
        if self.method not in ("dense", "static", "set"):
            raise InputError(
                f"method={self.method!r}: must be one of dense, static, set", field="method"
            )
        if not 0 <= self.sparsity < 1:
            raise InputError(
                f"sparsity={self.sparsity!r}: must be a number in [0, 1)", field="sparsity"
            )

    def canonical(self) -> ToySparse:
        return ToySparse() if self.method == "dense" else self


@dataclass(frozen=True)
class ToySpec:
    """What to play.

    Attributes:
        task: What is built.
        fate: How it ends.
        seconds: How long it takes.
        points: Points of the curve.
        rate: A number.
        sizes: Some more.
        note: Anything.
        extra: Further settings.
        sparse: How sparse.
        seed: The seed.
    """

    task: str = "tower"
    fate: Fate = "fine"
    seconds: float = 0.0
    points: int = 4
    rate: float = 1e-3
    sizes: tuple[int, ...] = (64, 64)
    note: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    sparse: ToySparse = field(default_factory=ToySparse)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise InputError(f"rate={self.rate!r}: must be a positive number", field="rate")

    def canonical(self) -> ToySpec:
        return dataclasses.replace(self, sparse=self.sparse.canonical())

    def check_data(self) -> None:
        if self.note == "needs data":
            raise FileNotFoundError("data=None: set DST_DATA to a folder that holds bricks")


def run(
    spec: ToySpec, out: Path, progress: Callable[[float, Mapping[str, float]], None]
) -> dict[str, Any]:
    """Meet the fate of the spec."""
    refusal = InputError(f"task={spec.task!r}: cannot be built", field="task")
    if spec.fate == "refuse":
        raise refusal
    if spec.fate != "refuse in progress":
        (out / "notes.txt").write_text("built")
    if spec.fate == "refuse when written":
        raise refusal
    progress(0.5, {"height": float("nan"), "speed": 2.0})
    end = time.monotonic() + spec.seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    match spec.fate:
        case "raise":
            raise RuntimeError("the tower\nfell over")
        case "refuse in progress":
            raise refusal
        case "diverge":
            raise ValueError("torque=nan: simulation diverged")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill once":
            marker = out.parent / "killed"
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            (out / "grandchild").write_text(str(child.pid))
            time.sleep(60)
        case "exit":
            os._exit(0)
        case "leave":
            sys.exit("had enough")
        case "print":
            print("hello from the runner", flush=True)
    return result(spec)


def result(spec: ToySpec) -> dict[str, Any]:
    """Return what the runner of a fine spec returns."""
    base = {"dense": 10.0, "static": 8.0, "set": 9.0}[spec.sparse.method]
    score = base + 0.5 * spec.seed - (spec.sparse.distribution == "uniform")
    return {
        "score": float("nan") if spec.fate == "nan" else score,
        "curve": [[100 * (i + 1), score * (i + 1) / spec.points] for i in range(spec.points)],
        "sparsity": {"requested": spec.sparse.sparsity, "achieved": spec.sparse.sparsity},
        "layers": [{"name": "brick", "active": 10, "total": 100}],
    }
