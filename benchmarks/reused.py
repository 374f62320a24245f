"""How much of a task is reused in continual RL: `python -m benchmarks.reused [--runs-dir DIR]`.

Prints, task by task, for each finished run of the grid `continual_rl` with `share=reuse`: which
part of the task's weights of the trunk was an earlier task's, and which part of the trunk earlier
tasks held when it began.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from stable_baselines3 import PPO

from dstrl.continual import ContinualPolicy


def main() -> None:
    """Print a line for each run and task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    runs = parser.parse_args().runs_dir / "continual_rl"
    for result in sorted(runs.glob("*/result.json")):
        spec = json.loads(result.read_text(encoding="utf-8"))["spec"]
        if spec.get("share") != "reuse":
            continue
        model = PPO.load(result.parent / "output" / "model.zip", device="cpu")
        assert isinstance(model.policy, ContinualPolicy)
        for task, (reused, held) in enumerate(parts(model.policy)):
            seed = spec.get("seed", 0)
            print(f"seed {seed}, task {task}: {reused:.1%} reused, {held:.1%} held before")


def parts(policy: ContinualPolicy) -> list[tuple[float, float]]:
    """Return for each task which part of its trunk is reused, and how much was held before it."""
    held: dict[str, torch.Tensor] = {}
    found = []
    for label in policy.ended_tasks:
        masks = {name: policy.task_masks(label)[name] for name in policy.capacity()}
        before = {name: held.get(name, torch.zeros_like(mask)) for name, mask in masks.items()}
        both = sum(int((mask & before[name]).sum()) for name, mask in masks.items())
        taken, total = (sum(int(m.sum()) for m in part.values()) for part in (before, masks))
        found.append((both / total, taken / sum(mask.numel() for mask in masks.values())))
        held = {name: mask | before[name] for name, mask in masks.items()}
    return found


if __name__ == "__main__":
    main()
