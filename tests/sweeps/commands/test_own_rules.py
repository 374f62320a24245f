"""Rules, methods and distributions of the user's own: the same in Python, options and grids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sparse_core import InputError, SparseConfig
from sweeps.commands.options import parse_train
from sweeps.language.grid import parse
from sweeps.language.kinds import KINDS
from tests.own_modules import OwnModule

LAB = """
from sparse_core import Method, drop_rule, growth_rule

@growth_rule()
def cautious(scene):
    return scene.random("growth")

@drop_rule()
def smallest(scene):
    return scene.weight.abs()

def alike(weight):
    return 1.0

MINE = Method("Mine.", updater="sparse_core.updaters.set:SET", growth=("{me}:cautious",))
"""


def in_python(field: str, value: str) -> SparseConfig:
    fields: dict[str, Any] = {"method": "set", field: value}
    try:
        return SparseConfig(**fields)
    except InputError as error:
        raise error.below("sparse") from None


def in_a_grid(field: str, value: str) -> SparseConfig:
    method = "" if field == "method" else "sparse.method: set, "
    grid = parse(f"name: x\nkind: rl\nbase: {{{method}sparse.{field}: '{value}'}}")
    sparse: SparseConfig = grid.runs[0].spec.sparse
    return sparse


def as_an_option(field: str, value: str) -> SparseConfig:
    method = [] if field == "method" else ["--sparse.method", "set"]
    options = parse_train(KINDS["rl"], [*method, f"--sparse.{field}", value], "dst train rl")
    sparse: SparseConfig = options.spec.sparse
    return sparse


DOORS = [in_python, in_a_grid, as_an_option]
FIELDS = {"growth": "cautious", "drop": "smallest", "distribution": "alike", "method": "MINE"}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("field", FIELDS)
def test_they_come_through_every_door(
    own_module: OwnModule, door: Callable[[str, str], SparseConfig], field: str
) -> None:
    reference = f"{own_module(LAB)}:{FIELDS[field]}"
    assert getattr(door(field, reference), field) == reference


@pytest.mark.parametrize("field", FIELDS)
def test_the_errors_are_the_same(own_module: OwnModule, field: str) -> None:
    lab = own_module(LAB)
    wrong = "smallest" if field == "growth" else "cautious" if field != "distribution" else "MINE"
    for name, expected in (("missing", "has no 'missing'"), (wrong, "must be a")):
        said = []
        for door in DOORS:
            with pytest.raises(InputError) as caught:
                door(field, f"{lab}:{name}")
            said.append(str(caught.value))
        message = said[0]
        assert message.startswith(f"sparse.{field}='{lab}:{name}': ") and expected in message
        assert f"{lab}.py" in message and "\n" not in message
        assert all(other.endswith(message) for other in said)


def test_a_grid_compares_them_with_ours(own_module: OwnModule) -> None:
    lab = own_module(LAB)
    grid = f"grid: {{sparse.method: [set], sparse.growth: [random, '{lab}:cautious']}}"
    runs = parse(f"name: x\nkind: rl\n{grid}").runs
    assert [run.spec.sparse.growth_rule for run in runs] == ["random", f"{lab}:cautious"]
    assert len({run.run_id for run in runs}) == 2
