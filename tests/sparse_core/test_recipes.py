"""The recipes of `CONTRIBUTING.md` and `docs/own_rules.md`, followed."""

from __future__ import annotations

import re
from ast import literal_eval
from pathlib import Path

import pytest
import torch

from sparse_core import SparseConfig, registry
from sparse_core.method import Method
from sparse_core.metrics.training_flops import seen_by
from tests.recipes import blocks_of
from tests.sparse_core.networks import built, train

DOCS = Path(__file__).parents[2] / "docs" / "own_rules.md"

RULE_IMPORTS = """
from torch import Tensor
from sparse_core.rules import growth_rule
from sparse_core.updaters.scene import Scene
"""

METHOD = """
from sparse_core.updaters.base import DropAndGrow

class Mine(DropAndGrow):
    pass
"""


def moved(**fields: object) -> int:
    config = dict(sparsity=0.7, update_every=5, horizon=100) | fields
    net, optimizer, engine = built(config)
    before = [tensor.active().clone() for tensor in engine.tensors]
    train(net, optimizer, range(20))
    assert sum(t.count() for t in engine.tensors) == sum(t.budget for t in engine.tensors)
    return sum(int((t.active() & ~b).sum()) for t, b in zip(engine.tensors, before, strict=True))


@pytest.mark.parametrize("method", ["set", "rigl", "rigl_itop", "srigl", "snfs", "mest"])
def test_a_growth_rule_is_a_function_and_one_line(own_module, monkeypatch, method):
    rule, line = blocks_of("A new growth rule")
    module = own_module(f"{RULE_IMPORTS}\n{rule}")
    entry = literal_eval(f"{{{line.replace('sparse_core.updaters.scores', module)}}}")
    monkeypatch.setitem(registry.GROWTH_RULES, "uphill", entry["uphill"])
    assert moved(method=method, growth="uphill") > 0
    assert seen_by(SparseConfig(method=method, growth="uphill")) == "gradient"


def test_a_method_is_an_updater_and_one_entry(own_module, monkeypatch):
    mine = Method("Mine.", updater=f"{own_module(METHOD)}:Mine", growth=("gradient",))
    monkeypatch.setitem(registry.METHODS, "mine", mine)
    assert moved(method="mine") == moved(method="rigl") > 0
    assert SparseConfig(method="mine", growth="gradient").canonical() == SparseConfig(method="mine")


def test_the_method_of_the_recipe_moves_half_as_much(own_module, monkeypatch):
    code, entry = blocks_of("A new method")
    entry = entry.replace("sparse_core.updaters.gentle", own_module(code))
    found = eval(f"{{{entry}}}", {"Method": Method, "SIGHTED": registry.SIGHTED})
    monkeypatch.setitem(registry.METHODS, "gentle", found["gentle"])
    assert 0 < moved(method="gentle") < moved(method="rigl")
    assert moved(method="gentle", growth="momentum") > 0


def documented() -> str:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0])


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_the_documented_module_works(own_module, backend):
    lab = own_module(documented())
    rules = dict(growth=f"{lab}:hebbian", drop=f"{lab}:smallest", backend=backend)
    assert moved(method="set", distribution=f"{lab}:wide_inputs", **rules) > 0
    assert 0 < moved(method=f"{lab}:SLOW") < moved(method="rigl")
    assert moved(method=f"{lab}:SLOW", **rules) > 0


def test_the_documented_needs_are_those_that_there_are():
    from sparse_core.rules import NEEDS

    assert tuple(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), flags=re.MULTILINE)[1:]) == NEEDS


def test_the_documented_distribution_by_hand(own_module):
    lab = own_module(documented())
    torch.manual_seed(0)
    _, _, engine = built(dict(sparsity=0.75, distribution=f"{lab}:wide_inputs"), sizes=(8, 16, 16))
    # shares 2 * 128 and 256 of 96 weights
    assert [tensor.budget for tensor in engine.tensors] == [48, 48]
