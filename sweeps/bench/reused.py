"""How much of a task is reused in continual RL: `python -m sweeps.bench.reused [--runs-dir DIR]`.

Prints, task by task, for each finished run of the grid `continual_rl` with `share=reuse`: which
part of the task's weights of the trunk was an earlier task's, and which part of the trunk earlier
tasks held when it began.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from dstrl.runs.saved import load
from dstrl.tasks.mixin import ContinualPolicy
from dstrl.tasks.spec import CRLSpec
from dstrl.tasks.train import make_model
from sparse_core.checks import InputError
from sweeps.bench.command import exit_code, plain_parser
from sweeps.language import spec as specs
from sweeps.store.directory import RunDir


def main() -> None:
    """Print a line for each run and task."""
    parser = plain_parser("sweeps.bench.reused", __doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    folder = parser.parse_args().runs_dir / "continual_rl"
    found = False
    for run, spec in finished(folder):
        model = make_model(spec.resolve())
        load(model, run.output)
        assert isinstance(model.policy, ContinualPolicy)
        for task, (reused, held) in enumerate(parts(model.policy)):
            found = True
            print(f"seed {spec.seed}, task {task}: {reused:.1%} reused, {held:.1%} held before")
    if not found:
        raise InputError(
            f"runs_dir={str(folder.parent)!r}: holds no finished run of grid continual_rl with "
            "share=reuse",
            field="runs_dir",
        )


def finished(folder: Path) -> Iterator[tuple[RunDir, CRLSpec]]:
    """Yield the finished runs of tasks that may reuse weights, whatever else the folder holds."""
    for path in sorted(folder.glob("*/result.json")):
        run = RunDir(path.parent)
        result = run.result()
        if result is not None and result["kind"] == "crl" and result["spec"]["share"] == "reuse":
            yield run, specs.load(CRLSpec, result["spec"])


def parts(policy: ContinualPolicy) -> list[tuple[float, float]]:
    """Return for each task which part of its trunk is reused, and how much was held before it."""
    held: dict[str, torch.Tensor] = {}
    found = []
    for label in policy.finished_tasks:
        masks = {name: policy.task_masks(label)[name] for name in policy.capacity()}
        before = {name: held.get(name, torch.zeros_like(mask)) for name, mask in masks.items()}
        both = sum(int((mask & before[name]).sum()) for name, mask in masks.items())
        taken, total = (sum(int(m.sum()) for m in part.values()) for part in (before, masks))
        found.append((both / total, taken / sum(mask.numel() for mask in masks.values())))
        held = {name: mask | before[name] for name, mask in masks.items()}
    return found


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.reused", main))
