"""What sparse networks that share one network have to beat: dense networks, by one word each.

A baseline decides method, strategy, isolation and sharing. All are told the task of a sample, in
training and at test, and have a head for each, as sparse networks have here. No torch is imported.

    finetune            one dense network that learns task after task
    replay              the same, which keeps some samples of each task and goes on learning them
    ewc                 the same, whose weights are held where earlier tasks need them
    joint               one dense network that learns all tasks at once: it has all data
    tiny                finetune with no more weights than a sparse network of one task has active
    independent         a dense network for each task, each as small as tiny
    independent_total   a dense network for each task, together as large as one of all tasks
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparse_core.checks import one_of


@dataclass(frozen=True)
class Baseline:
    """How dense networks learn the tasks.

    Attributes:
        summary: What it is, in one line.
        size: How many weights a network has at most: `whole`, those of the network with its heads;
            `task`, those that a sparse network of one task has active; `share`, its share of the
            whole, where each task gets the same.
        apart: Whether each task has a network of its own.
        joint: Whether all tasks are learnt at once.
        plugin: Import string of `(spec) -> plugin of Avalanche` that protects earlier tasks; empty:
            nothing does.
        settings: Fields of the run that it alone has.
    """

    summary: str
    size: str = "whole"
    apart: bool = False
    joint: bool = False
    plugin: str = ""
    settings: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Import string of what does it."""
        if self.apart:
            return "continual.runs.independent:Independent"
        return self.plugin or "continual.tasks.masks:TaskMasks"


_PLUGINS = "continual.runs.protecting"

BASELINES: Mapping[str, Baseline] = {
    "finetune": Baseline("one dense network that learns task after task"),
    "replay": Baseline(
        "finetune that keeps samples of earlier tasks and goes on learning them",
        plugin=f"{_PLUGINS}:replay",
        settings=("replay_samples",),
    ),
    "ewc": Baseline(
        "finetune whose weights are held where earlier tasks need them (Kirkpatrick et al. 2017)",
        plugin=f"{_PLUGINS}:ewc",
        settings=("ewc_lambda",),
    ),
    "joint": Baseline("one dense network that learns all tasks at once", joint=True),
    "tiny": Baseline("finetune with no more weights than a task's sparse network", size="task"),
    "independent": Baseline(
        "for each task a dense network with no more weights than its sparse network",
        size="task",
        apart=True,
    ),
    "independent_total": Baseline(
        "for each task a dense network, together as large as one network with its heads",
        size="share",
        apart=True,
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
