"""What sparse networks that share one network have to beat: dense networks, by one word each.

Beside those of `sparse_core.baselines`:

    replay   finetune that keeps some samples of each task and goes on learning them
    ewc      finetune whose weights are held where earlier tasks need them
    joint    one dense network that learns all tasks at once: it has all data

A baseline decides the strategy, too, and tells the task in training and at test. No torch is
imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparse_core import baselines
from sparse_core.baselines import FINETUNE


@dataclass(frozen=True)
class Baseline(baselines.Baseline):
    """How dense networks learn the tasks.

    Attributes:
        joint: Whether all tasks are learnt at once.
        plugin: Import string of `(spec) -> plugin of Avalanche` that protects earlier tasks; empty:
            nothing does.
        settings: Fields of the run that it alone has.
    """

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
_OF_ANY_KIND = baselines.baselines(Baseline, "network")

BASELINES: Mapping[str, Baseline] = {
    FINETUNE: _OF_ANY_KIND[FINETUNE],
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
    **_OF_ANY_KIND,
}
