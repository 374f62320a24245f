"""What a run of continual learning can name, a line for each; no torch is imported."""

from __future__ import annotations

from continual.runs.baselines import BASELINES
from continual.runs.catalogue import BENCHMARKS, NETWORKS, SCENARIOS
from continual.runs.datasets import DATASETS
from continual.strategies.recipes import RECIPES
from sparse_core.checks import one_of
from sparse_core.listing import Entry, first_line

KINDS = ("benchmarks", "datasets", "strategies", "baselines", "networks")


def described(kind: str) -> list[Entry]:
    """List what there is of a kind, in the order of its table.

    Args:
        kind: One of `KINDS`.

    Raises:
        InputError: On another kind.
    """
    one_of("kind", kind, KINDS)
    if kind == "datasets":
        return [Entry(name, data.title, data.load) for name, data in DATASETS.items()]
    if kind == "strategies":
        return [_strategy(name, recipe.strategy) for name, recipe in RECIPES.items()]
    if kind == "baselines":
        return [Entry(name, f"cl: {one.summary}", one.source) for name, one in BASELINES.items()]
    if kind == "networks":
        return [Entry(name, network.summary, network.make) for name, network in NETWORKS.items()]
    return [
        *(_benchmark(name, *parts) for name, parts in BENCHMARKS.items()),
        *(
            Entry(name, f"a data set of your own (dataset): {scenario.summary}", scenario.make)
            for name, scenario in SCENARIOS.items()
        ),
    ]


def _strategy(name: str, source: str) -> Entry:
    if source:
        return Entry(name, first_line(source), source)
    own = "no published strategy: sparsity, isolation and sharing as they are set"
    return Entry(name, own, "continual.tasks.masks:TaskMasks")


def _benchmark(name: str, scenario: str, dataset: str) -> Entry:
    way, data = SCENARIOS[scenario], DATASETS[dataset]
    return Entry(name, f"{data.title}: {way.summary}", way.make)
