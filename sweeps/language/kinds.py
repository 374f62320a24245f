"""Kinds of runs: where the spec and the runner of each live, and what figures show.

Both are import strings, so that to know a kind costs no import of torch. A kind of the user's own
is a `Kind` that `package.module:NAME` names, or stands in a grid under `kinds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sparse_core.checks import InputError
from sparse_core.imports import check_module, is_reference, load
from sweeps.language import hooks


@dataclass(frozen=True)
class Kind:
    """One kind of run.

    Attributes:
        spec: Import string of its spec, a frozen dataclass; see `sweeps.language.hooks`.
        runner: Import string of a `sweeps.language.hooks.Runner`.
        title: Heading in reports.
        task: Dotted fields that say what is learnt; runs are only compared within one task.
        score: What `result["score"]` is, with its unit.
        curve: Which of a result's curves is shown; a run that lacks it has none.
        x: What the first column of that curve is, with its unit.
        y: What the second column of that curve is, with its unit.
        percent: Whether score and curve are fractions, to be shown in percent.
        extra: Further numbers of a result to tabulate where there are any: key and heading. A key
            may be `package.module:NAME` of a function that takes the result and returns the number
            as it is to be shown, or None.
        panels: Further curves of a result to draw where there are any, a panel each: its key,
            dotted in a mapping (`plasticity.churn`), the panel's title with its unit, and what its
            first column is where that is not `x`.
        figures: Further figures of the report: `package.module:NAME` of a
            `sweeps.figures.sheet.Draw` each.
        player: Import string of a `sweeps.language.hooks.Player`; empty: there are no episodes to
            see.
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
    panels: tuple[tuple[str, ...], ...] = ()
    figures: tuple[str, ...] = ()
    player: str = ""


PLASTICITY = (
    ("plasticity.dormant", "dormant neurons (fraction)"),
    ("plasticity.effective_rank", "effective rank of the features"),
    ("plasticity.weight_rms", "root mean square of the weights"),
    ("plasticity.churn", "connections replaced (fraction)"),
    ("plasticity.gradient_snr", "signal-to-noise ratio of gradients"),
)
"""Curves of reinforcement learning's kinds, `dstrl.watching.plasticity`."""

TRAINED = (
    ("sparse_core.columns:trained_mean", "weights a task trains, mean"),
    ("sparse_core.columns:trained_least", "and least"),
)
"""Columns of the kinds that learn tasks in sequence."""

KINDS = {
    "rl": Kind(
        spec="dstrl.runs.spec:RLSpec",
        runner="dstrl.runs.train:run",
        title="Reinforcement learning",
        task=("env", "algo"),
        score="final return",
        x="environment steps",
        y="evaluation return (mean over episodes)",
        extra=(
            ("recovery_steps", "steps to recover after a change"),
            ("dstrl.runs.measured:at_true_features", "connections at true features (%)"),
        ),
        panels=(*PLASTICITY, ("recovery", "steps to recover after a change", "changes")),
        player="dstrl.runs.enjoy:enjoy",
    ),
    "cl": Kind(
        spec="continual.runs.spec:CLSpec",
        runner="continual.runs.train:run",
        title="Continual learning",
        task=("benchmark", "dataset", "folder", "tasks"),
        score="final average accuracy, tasks known (%)",
        x="tasks seen",
        y="average accuracy over tasks seen (%)",
        percent=True,
        extra=(
            ("forgetting", "forgetting (%)"),
            ("accuracy_without_labels", "accuracy, tasks inferred (%)"),
            ("tasks_found", "tasks inferred right (%)"),
            *TRAINED,
            ("continual.runs.columns:samples_kept", "samples kept of other tasks"),
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
            *TRAINED,
        ),
        panels=PLASTICITY,
        player="dstrl.tasks.enjoy:enjoy_tasks",
    ),
    "xmc": Kind(
        spec="supervised.xmc.spec:XMCSpec",
        runner="supervised.xmc.train:run",
        title="Extreme classification",
        task=("dataset",),
        score="P@1 (%)",
        x="epochs",
        y="P@1 on samples held out (%)",
        percent=True,
        extra=(
            ("precision_at_3", "P@3 (%)"),
            ("precision_at_5", "P@5 (%)"),
            ("ndcg_at_3", "nDCG@3 (%)"),
            ("ndcg_at_5", "nDCG@5 (%)"),
            ("propensity_precision_at_1", "PSP@1 (%)"),
            ("propensity_precision_at_3", "PSP@3 (%)"),
            ("propensity_precision_at_5", "PSP@5 (%)"),
        ),
    ),
    "vision": Kind(
        spec="supervised.vision.spec:VisionSpec",
        runner="supervised.vision.train:run",
        title="Images",
        task=("dataset", "network"),
        score="accuracy (%)",
        x="epochs",
        y="accuracy (%)",
        percent=True,
        extra=(
            ("top5", "top-5 accuracy (%)"),
            ("corrupted_accuracy", "accuracy on corrupted images (%)"),
        ),
    ),
    "rec": Kind(
        spec="supervised.rec.spec:RecSpec",
        runner="supervised.rec.train:run",
        title="Recommendation",
        task=("dataset", "model"),
        score="recall (%)",
        x="epochs",
        y="recall on pairs held out (%)",
        percent=True,
        extra=(
            ("ndcg", "nDCG (%)"),
            ("supervised.rec.columns:megabytes", "weights and indices (MB)"),
            ("supervised.rec.columns:training_megabytes", "with gradients and moments (MB)"),
        ),
    ),
}


def find(name: object, own: Mapping[str, Kind] | None = None) -> Kind:
    """Return the kind of this name.

    Args:
        name: The name of a kind, or `package.module:NAME` of a `Kind`.
        own: Kinds to be found besides those of this project.

    Raises:
        InputError: If there is none, or it is no `Kind` or one that cannot be used.
    """
    known = KINDS | dict(own or {})
    if isinstance(name, str) and name in known:
        return known[name]
    if isinstance(name, str) and is_reference(name):
        kind: Kind = load(
            "kind", name, "a sweeps.language.kinds.Kind", lambda it: isinstance(it, Kind)
        )
        try:
            check(kind)
        except InputError as error:
            raise InputError(f"kind={name!r}: {error}", field="kind") from error
        return kind
    raise InputError(
        f"kind={name!r}: must be one of {', '.join(known)}, or package.module:NAME of a Kind",
        field="kind",
    )


def spec_type(reference: str) -> type[Any]:
    """Import the class of a kind's spec.

    Raises:
        InputError: If there is none, or it is no spec.
    """
    found: type[Any] = load("spec", reference, hooks.SPEC, hooks.is_spec)
    return found


def runner(reference: str) -> hooks.Runner:
    """Import a kind's runner.

    Raises:
        InputError: If there is none, or it cannot be called as one.
    """
    found: hooks.Runner = load("runner", reference, hooks.RUNNER, hooks.is_runner)
    return found


def player(reference: str) -> hooks.Player:
    """Import a kind's player.

    Raises:
        InputError: If there is none, or it cannot be called as one.
    """
    found: hooks.Player = load("player", reference, hooks.PLAYER, hooks.is_player)
    return found


def measure(reference: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Import a function that takes a further number from a result.

    Raises:
        InputError: If there is none, or it cannot be called as one.
    """
    found: Callable[[Mapping[str, Any]], float | None] = load(
        "extra", reference, hooks.MEASURE, hooks.is_measure
    )
    return found


def check(kind: Kind) -> type[Any]:
    """Check what can be known of a kind before its runner is imported; return its spec's class.

    Raises:
        InputError: If a reference has another form, or there is no such module.
    """
    found = spec_type(kind.spec)
    for field, reference, expected in (
        ("runner", kind.runner, hooks.RUNNER),
        ("player", kind.player, hooks.PLAYER),
    ):
        if is_reference(reference):
            check_module(field, reference, reference.partition(":")[0], expected)
        elif reference or field == "runner":
            load(field, reference, expected)
    for reference in kind.figures:
        load("figures", reference, hooks.FIGURE, hooks.is_figure)
    for key, _ in kind.extra:
        if ":" in key:
            measure(key)
    for panel in kind.panels:
        if len(panel) not in (2, 3):
            raise InputError(
                f"panels={list(panel)!r}: must be a key, a title and, if need be, what x is",
                field="panels",
            )
    return found
