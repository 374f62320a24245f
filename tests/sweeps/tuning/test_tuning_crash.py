"""`dst tune` killed again and again: equal trials all the same, each run done once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.language.grid import load_grid

GridFile = Callable[[str], Path]
TEXT = """
kind: toy
base: {seconds: 0.2}
grid: {sparse.method: [dense, static, set]}
search: {rate: {low: 0.01, high: 1.0, log: true}}
seeds: 2
tuning_seeds: [100, 101]
"""


@pytest.mark.slow
def test_killed_drivers_lose_nothing(grid_file: GridFile, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(Path(optuna.__file__).parents[1])])
    here: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path}}
    grid = grid_file(TEXT)
    command = [sys.executable, "-m", "sweeps.cli", "tune", str(grid), "--trials", "4", "--jobs=2"]
    for kill in range(4):
        with (tmp_path / f"log{kill}").open("wb") as log:
            driver = subprocess.Popen(command, **here, stdout=log, stderr=log)
        time.sleep(3 + kill)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    done = subprocess.run(command, **here, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    place = tmp_path / "runs/toys/tuning"
    results = [json.loads(path.read_text()) for path in place.glob("*/result.json")]
    assert len({result["run_id"] for result in results}) == len(results) == 3 * 4 * 2
    assert not list(place.rglob("*.tmp"))
    assert len(load_grid(str(place / "best.yaml")).runs) == 3 * 2
