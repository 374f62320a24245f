"""What a run of reinforcement learning can name: presets, environments, baselines, a line each.

No torch is imported.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dstrl.runs import hyperparameters, presets
from dstrl.tasks.baselines import BASELINES
from sparse_core.checks import one_of
from sparse_core.listing import Entry


def described(kind: str) -> list[Entry]:
    """List what there is of a kind.

    Args:
        kind: `presets`; `baselines`, of tasks in sequence; or `envs`: tuned environments, those of
            this project, wrappers and sequences of tasks.

    Raises:
        InputError: On another kind.
    """
    one_of("kind", kind, LISTINGS)
    return list(LISTINGS[kind]())


def _presets() -> Iterator[Entry]:
    for name in presets.PRESETS:
        recipe = presets.read(name)
        paper = " ".join(str(recipe["paper"]).partition("; code:")[0].split())
        summary = f"{', '.join(presets.algorithms_of(recipe))}: {paper}"
        yield Entry(name, summary, f"dstrl/runs/recipes/{name}.yaml")


def _baselines() -> Iterator[Entry]:
    for name, baseline in BASELINES.items():
        yield Entry(name, f"crl: {baseline.summary}", "dstrl/tasks/baselines.py")


def _environments() -> Iterator[Entry]:
    import gymnasium

    from envs.dynamics import CARTPOLE, PENDULUM
    from envs.sequences import SEQUENCES
    from envs.worlds import WORLDS
    from envs.wrappers import WRAPPERS

    for name, algorithms in _tuned().items():
        any_version = "" if "-v" in name else "in any version: "
        summary = f"{any_version}hyper-parameters tuned for {', '.join(algorithms)}"
        yield Entry(name, summary, "gymnasium")
    for name in (CARTPOLE, PENDULUM):
        made_by = str(gymnasium.spec(name).entry_point)
        yield Entry(
            name, _first_line(gymnasium.envs.registration.load_env_creator(made_by)), made_by
        )
    for world in WORLDS:
        yield Entry(world.id, world.summary, "envs.worlds:WORLDS")
    for name, wrapper in WRAPPERS.items():
        yield Entry(name, f"wrapper: {_first_line(wrapper)}", f"{wrapper.__module__}:{name}")
    for name, tasks in SEQUENCES.items():
        yield Entry(name, f"sequence: {_difference(tasks)}", "envs.sequences:SEQUENCES")


def _tuned() -> dict[str, list[str]]:
    """Return the environments with tuned hyper-parameters, and for which algorithms."""
    found: dict[str, list[str]] = {}
    for algo in hyperparameters.ALGORITHMS:
        for name in hyperparameters.tuned(algo):
            found.setdefault(name, []).append(algo)
    return dict(sorted(found.items()))


def _difference(tasks: tuple[Any, ...]) -> str:
    """Say in what the tasks of a sequence differ."""
    of = list(dict.fromkeys(task.tuned for task in tasks))
    said = f"{len(tasks)} tasks of {', '.join(of)}"
    if len(of) == len(tasks):
        return said
    names = [field.name for field in dataclasses.fields(tasks[0])]
    differing = [name for name in names if len({getattr(task, name) for task in tasks}) > 1]
    again = ", each learnt twice" if len(set(tasks)) < len(tasks) else ""
    return f"{said} with their own {', '.join(differing)}{again}"


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


LISTINGS: Mapping[str, Callable[[], Iterator[Entry]]] = {
    "presets": _presets,
    "envs": _environments,
    "baselines": _baselines,
}
