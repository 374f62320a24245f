"""What sparse networks that learn tasks in sequence have to beat: dense ones, by one word each.

A baseline decides method, isolation and sharing. All are told which task it is, and have a head for
each, as sparse networks have here. No torch is imported.

    finetune            one dense network that learns task after task
    tiny                finetune with no more weights than a sparse network of one task has active
    independent         a dense network for each task, each as small as tiny
    independent_total   a dense network for each task, together as large as one with all heads
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

FINETUNE = "finetune"


@dataclass(frozen=True)
class Baseline:
    """How dense networks learn the tasks.

    Attributes:
        summary: What it is, in one line.
        size: How many weights a network has at most: `whole`, those of the dense one with its
            heads; `task`, those that a sparse network of one task has active, heads and dense
            layers included; `share`, its share of the whole, where each task gets the same.
        apart: Whether each task has a network of its own.
    """

    summary: str
    size: str = "whole"
    apart: bool = False


Kind = TypeVar("Kind", bound=Baseline)


def baselines(made: type[Kind], what: str) -> dict[str, Kind]:
    """Return the baselines that go with tasks of any kind, by name.

    Args:
        made: Their class.
        what: What a network is called in summaries.
    """
    small, whole = f"no more weights than its sparse {what}", f"one {what} with its heads"
    return {
        FINETUNE: made(f"one dense {what} that learns task after task"),
        "tiny": made(f"finetune with no more weights than a task's sparse {what}", size="task"),
        "independent": made(f"for each task a dense {what} with {small}", size="task", apart=True),
        "independent_total": made(
            f"for each task a dense {what}, together as large as {whole}", size="share", apart=True
        ),
    }
