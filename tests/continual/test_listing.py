"""What can be named is listed, each with a line and a place that exists, and costs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from continual.listing import KINDS, described
from continual.runs.baselines import BASELINES
from continual.runs.catalogue import BENCHMARKS, NETWORKS, SCENARIOS
from continual.runs.datasets import DATASETS
from continual.strategies.recipes import RECIPES
from sparse_core.checks import InputError
from sparse_core.imports import load


def test_each_name_is_listed_once():
    names = {kind: [entry.name for entry in described(kind)] for kind in KINDS}
    assert names == {
        "benchmarks": [*BENCHMARKS, *SCENARIOS],
        "datasets": [*DATASETS],
        "strategies": [*RECIPES],
        "baselines": [*BASELINES],
        "networks": [*NETWORKS],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_each_has_one_line_and_a_source_that_can_be_imported(kind):
    for entry in described(kind):
        assert entry.summary.strip() and "\n" not in entry.summary
        assert callable(load("source", entry.source, "a function or class"))


def test_benchmarks_are_scenarios_of_data_sets_that_suit_them():
    assert BENCHMARKS["permuted-cifar10"] == ("permuted", "cifar10")
    assert "rotated-digits" in BENCHMARKS and "rotated-cifar10" not in BENCHMARKS


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="kind='grids': must be one of benchmarks, datasets"):
        described("grids")


def test_listing_costs_no_torch():
    code = (
        "import sys; from continual.listing import KINDS, described; [*map(described, KINDS)]; "
        "print({'torch', 'avalanche'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
