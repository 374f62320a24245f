"""What is no rule is refused at once, what a rule does not declare it is not shown."""

from __future__ import annotations

import pytest
import torch

from sparse_core import SparseConfig, sparsify
from sparse_core.updaters.demands import demands
from tests.own_modules import OwnModule

RULES = """
from sparse_core import growth_rule

@growth_rule()
def pair(scene, other): return other

@growth_rule()
class Scores: pass

class Grows:
    growth = ("random",)
    def __call__(self, scene): return scene.weight

grows = Grows()

@growth_rule()
def secret_gradient(scene): return scene.gradient

@growth_rule(needs="gradient")
def secret_square(scene): return scene.gradient_square

@growth_rule(needs="gradient")
def secret_inputs(scene): return scene.inputs
"""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(growth="{me}:pair"), "is a function in .* @growth_rule.* of one argument$"),
        (dict(growth="{me}:Scores"), "is the class Scores in .*, must be a function declared"),
        (dict(growth="{me}:grows"), "is a Grows in .*, must be a function declared"),
        (dict(growth="{me}:Grows"), "is the class Grows in .*, must be a function declared"),
        (dict(distribution="{me}:pair"), "is a function in .*, must be a function of a layer's"),
    ],
)
def test_what_cannot_be_called_with_a_scene_is_no_rule(
    own_module: OwnModule, fields: dict[str, str], message: str
) -> None:
    name = own_module(RULES)
    named = {field: value.replace("{me}", name) for field, value in fields.items()}
    with pytest.raises(ValueError, match=message):
        SparseConfig(method="set", **named)


@pytest.mark.parametrize(
    "rule", ["function", "part", "thing", "Rules.static", "Rules.Inner.static"]
)
def test_whatever_can_be_called_with_a_scene_can_be_a_rule(
    own_module: OwnModule, rule: str
) -> None:
    text = """
from functools import partial
from sparse_core import growth_rule

function = growth_rule()(lambda scene: scene.random("mine"))
part = growth_rule()(partial(lambda purpose, scene: scene.random(purpose), "mine"))

class Thing:
    def __call__(self, scene): return scene.random("mine")

thing = growth_rule()(Thing())

class Rules:
    static = staticmethod(function)
    class Inner:
        static = staticmethod(function)
"""
    assert SparseConfig(method="set", growth=f"{own_module(text)}:{rule}").growth_rule


def test_a_function_can_be_a_rule_for_growth_and_for_drop(own_module: OwnModule) -> None:
    name = own_module("""
from sparse_core import drop_rule, growth_rule

@growth_rule(needs="gradient")
@drop_rule(by_weights=True)
def both(scene): return scene.weight.abs()
""")
    config = SparseConfig(method="set", growth=f"{name}:both", drop=f"{name}:both")
    assert demands(config) == {"growth": "gradient", "drop": "nothing"}


@pytest.mark.parametrize(
    ("rule", "needs"),
    [("secret_gradient", "gradient"), ("secret_square", "momentum"), ("secret_inputs", "signals")],
)
def test_a_rule_that_looks_at_what_it_does_not_declare_is_told_so(
    own_module: OwnModule, rule: str, needs: str
) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    growth = f"{own_module(RULES)}:{rule}"
    config = SparseConfig(
        method="set", growth=growth, sparsity=0.5, update_every=1, distribution="uniform"
    )
    sparsify(net, config, optimizer).set_horizon(10)
    net(torch.ones(3, 6)).sum().backward()
    with pytest.raises(RuntimeError, match=rf"layer '0.weight': no .* with needs='{needs}'"):
        optimizer.step()
