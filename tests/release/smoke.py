"""Follow the first steps of the documentation with the wheel, in a fresh environment.

    python -m tests.release.smoke                    the versions that pip chooses
    python -m tests.release.smoke --oldest           the oldest that pyproject.toml allows
    python -m tests.release.smoke --oldest --free torch torchvision
    python -m tests.release.smoke --python python3.12
    python -m tests.release.smoke --torch torch==2.13.0+cpu torchvision==0.28.0
    python -m tests.release.smoke --folder smoke               keep the environment

Everything happens in a folder outside the repository, with an empty cache of compiled kernels as a
newcomer has it; each step is printed with its time. torch is installed first, as the documentation
says, from PyTorch's index of builds for the CPU unless `--torch` names what pip is to install.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from handbook.release import left_out

ROOT = Path(__file__).resolve().parents[2]
LOWEST = re.compile(r"([\w.-]+)>=([\d.]+)")
CPU = ("torch", "torchvision", "--index-url", "https://download.pytorch.org/whl/cpu")
GRID = """
name: smoke
kind: rl
base: {algo: ppo, env: CartPole-v1, steps: 256, hyper.n_steps: 64, eval_episodes: 1}
grid: {sparse.method: [dense, rigl]}
seeds: 1
"""
SAC = """
from stable_baselines3 import SAC
from dstrl import SparseCallback, SparseSACPolicy
sparse = dict(method="srigl", sparsity=0.9)
model = SAC(SparseSACPolicy, "Pendulum-v1", policy_kwargs=dict(sparse=sparse), seed=0)
model.learn(150, callback=SparseCallback())
print(model.policy.actor.sparse_engine)
"""
STEPS: Sequence[tuple[str, ...]] = (
    ("dst", "--version"),
    ("dst", "list", "grids"),
    ("dst", "list", "presets"),
    ("dst", "train", "rl", "--algo", "sac", "--env", "Pendulum-v1", "--steps", "300",
     "--eval-every", "300", "--eval-episodes", "1", "--sparse.method", "srigl"),
    ("dst", "train", "cl", "--benchmark", "split-digits", "--tasks", "2", "--epochs", "1"),
    ("dst", "sweep", "run", "smoke.yaml", "--jobs", "1"),
    ("python", "sac.py"),
)  # fmt: skip


def main() -> int:
    """Do all steps, and return 0 if none has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.release.smoke")
    parser.add_argument("--python", default=sys.executable, help="of the environment")
    parser.add_argument("--oldest", action="store_true", help="the oldest versions allowed")
    parser.add_argument("--free", nargs="*", default=(), metavar="NAME", help="whatever comes")
    parser.add_argument("--torch", nargs="+", default=CPU, metavar="NAME", help="builds of torch")
    parser.add_argument("--folder", type=Path, help="new, and kept; default: a temporary one")
    options = parser.parse_args()
    constraints = lowest(options.free) if options.oldest else []
    with contextlib.ExitStack() as stack:
        place = options.folder
        if place is None:
            place = Path(stack.enter_context(TemporaryDirectory(prefix="dstrl-smoke-")))
        os.environ["SPARSE_CORE_CACHE_DIR"] = str(place.resolve() / "kernels")
        return follow(place.resolve(), options.python, constraints, options.torch)


def follow(place: Path, python: str, constraints: Sequence[str], torch: Sequence[str]) -> int:
    """Make an environment in a folder, install torch and the wheel, and do the steps there."""
    source = place / "source"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT, source, ignore=left_out)
    work = place / "work"
    work.mkdir()
    (work / "smoke.yaml").write_text(GRID)
    (work / "sac.py").write_text(SAC)
    (work / "constraints.txt").write_text("\n".join(constraints))
    timed((python, "-m", "venv", str(place / "venv")), place)
    bin_ = place / "venv" / "bin"
    pip = (str(bin_ / "python"), "-m", "pip", "-q")
    timed((*pip, "wheel", "--no-deps", "-w", str(place), str(source)), place)
    wheel = str(next(place.glob("dstrl-*.whl")))
    timed((*pip, "install", "-c", "constraints.txt", *torch), work)
    timed((*pip, "install", "-c", "constraints.txt", wheel), work)
    for step in STEPS:
        timed((str(bin_ / step[0]), *step[1:]), work)
    subprocess.run([str(bin_ / "dst"), "doctor"], cwd=work, check=False)
    return 0


def lowest(free: Collection[str] = ()) -> list[str]:
    """Return constraints to the oldest versions that `pyproject.toml` allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [match for line in project["dependencies"] if (match := LOWEST.match(line))]
    return [
        f"{name}=={version}.*" for name, version in map(re.Match.groups, found) if name not in free
    ]


def timed(command: Sequence[str], folder: Path) -> None:
    """Run a command and print it with its time.

    Raises:
        SystemExit: If it fails, with what it printed.
    """
    began = time.perf_counter()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    shown = " ".join((Path(command[0]).name, *command[1:]))
    print(f"{time.perf_counter() - began:7.1f} s  {shown}", flush=True)
    if done.returncode:
        raise SystemExit(f"failed:\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
