"""Kinds of runs: where the spec and the runner of `rl`, `cl` and `crl` live, what figures show.

Both are import strings, so that to know a kind costs no import of torch. A grid can bring its own
kinds.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from sparse_core.checks import InputError


@dataclass(frozen=True)
class Kind:
    """One kind of run.

    Attributes:
        spec: Import string of its frozen spec dataclass, which has a field `seed`.
        runner: Import string of `run(spec, out, progress) -> result`.
        title: Heading in reports.
        task: Dotted fields that say what is learnt; runs are only compared within one task.
        score: What `result["score"]` is, with its unit.
        curve: Which of a result's curves is shown; a run that lacks it has none.
        x: What the first column of that curve is, with its unit.
        y: What the second column of that curve is, with its unit.
        percent: Whether score and curve are fractions, to be shown in percent.
        extra: Further numbers of a result to tabulate where there are any: key and heading.
        player: Import string of `enjoy(spec, output, file, seed)`, which plays an episode of a
            finished run, writes it to a file or shows it, and returns `steps` and `score`.
        events: Whether the runner writes TensorBoard's event files if `DST_TENSORBOARD` is set.
    """

    spec: str
    runner: str
    title: str = ""
    task: tuple[str, ...] = ()
    score: str = "score"
    curve: str = "curve"
    x: str = "progress"
    y: str = "score"
    percent: bool = False
    extra: tuple[tuple[str, str], ...] = ()
    player: str = ""
    events: bool = False


KINDS = {
    "rl": Kind(
        spec="dstrl.runs.spec:RLSpec",
        runner="dstrl.runs.train:run",
        title="Reinforcement learning",
        task=("env", "algo"),
        score="final return",
        x="environment steps",
        y="evaluation return (mean over episodes)",
        player="dstrl.runs.enjoy:enjoy",
        events=True,
    ),
    "cl": Kind(
        spec="continual.runs.spec:CLSpec",
        runner="continual.runs.train:run",
        title="Continual learning",
        task=("benchmark", "tasks"),
        score="final average accuracy (%)",
        x="tasks seen",
        y="average accuracy over tasks seen (%)",
        percent=True,
        extra=(
            ("forgetting", "forgetting (%)"),
            ("accuracy_without_labels", "accuracy, tasks inferred (%)"),
            ("tasks_found", "tasks inferred right (%)"),
        ),
    ),
    "crl": Kind(
        spec="dstrl.tasks.spec:CRLSpec",
        runner="dstrl.tasks.train:run",
        title="Continual reinforcement learning",
        task=("sequence", "algo"),
        score="final mean performance (%)",
        x="environment steps of all tasks",
        y="mean performance, 0 before a task begins (%)",
        percent=True,
        extra=(
            ("forgetting", "forgetting (%)"),
            ("forward_transfer", "forward transfer (%)"),
            ("capacity_used", "capacity used (%)"),
        ),
        player="dstrl.tasks.enjoy:enjoy_tasks",
        events=True,
    ),
}


def resolve(reference: str) -> Any:
    """Import what `module:attribute` names.

    Raises:
        InputError: If it is not of that form, or there is no such module or attribute.
    """
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", reference):
        raise InputError(f"{reference!r}: must be like 'package.module:name'")
    module_name, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise InputError(f"{reference!r}: there is no module {error.name!r}") from error
    except AttributeError as error:
        raise InputError(f"{reference!r}: module {module_name!r} has no {attribute!r}") from error
