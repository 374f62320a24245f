"""What policies for tasks in sequence have to beat: dense networks, by one word each.

A baseline decides method, isolation and sharing. All are told which task it is, and have a head for
each, as sparse policies have here. No torch is imported.

    finetune            one dense policy that learns task after task
    tiny                finetune with no more weights than a sparse policy of one task has active
    independent         a dense policy for each task, each as small as tiny
    independent_total   a dense policy for each task, together as large as one with all heads
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparse_core.checks import one_of


@dataclass(frozen=True)
class Baseline:
    """How dense policies learn the tasks.

    Attributes:
        summary: What it is, in one line.
        size: How many weights a policy has at most: `whole`, those of the dense one; `task`, those
            that a sparse policy of one task has active, heads and dense layers included; `share`,
            its share of a dense policy with a head for each task.
        isolation: `none` or `apart`, as in `dstrl.tasks.mixin.ContinualPolicy`.
    """

    summary: str
    size: str = "whole"
    isolation: str = "none"


BASELINES: Mapping[str, Baseline] = {
    "finetune": Baseline("one dense policy that learns task after task"),
    "tiny": Baseline("finetune with no more weights than a task's sparse policy", size="task"),
    "independent": Baseline(
        "for each task a dense policy with no more weights than its sparse policy",
        size="task",
        isolation="apart",
    ),
    "independent_total": Baseline(
        "for each task a dense policy, together as large as one with all heads",
        size="share",
        isolation="apart",
    ),
}

FINETUNE = "finetune"


def baseline_named(name: str) -> Baseline:
    """Return the baseline of this name.

    Raises:
        InputError: If there is none.
    """
    one_of("baseline", name, BASELINES)
    return BASELINES[name]
