"""Rules, methods and distributions of the user's own do what those with a name do."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sparse_core import SparseConfig, sparsify
from sparse_core.budgets.distributions import budgets
from sparse_core.budgets.patterns import structure_for
from sparse_core.budgets.selection import select
from sparse_core.metrics.training_flops import seen_by
from sparse_core.updaters.blocked import RankedInBlocks
from sparse_core.updaters.ranked import Ranked
from sparse_core.updaters.scene import Moment
from tests.sparse_core.networks import built, mlp, train

RULES = """
from sparse_core import drop_rule, growth_rule

@growth_rule(needs="gradient", by_rows=True)
def steepest(scene):
    return scene.gradient.abs()

@growth_rule(needs="signals", by_rows=True)
def hebbian(scene):
    return scene.outputs.abs().T @ scene.inputs.abs()

@drop_rule(by_weights=True)
def smallest(scene):
    return scene.weight.abs()

@drop_rule()
def of_weak_neurons(scene):
    return scene.weight.abs() * scene.weight.abs().sum(1, keepdim=True)

@growth_rule(needs="gradient", samples=True)
def every_other(scene):
    scores = scene.gradient.abs()
    scores.view(-1)[::2] = float("-inf")
    return scores
"""

METHOD = """
from sparse_core import Method
from sparse_core.updaters.rigl import RigL

class Mine(RigL):
    pass

MINE = Method("RigL by another name.", updater=Mine, growth=("gradient", "momentum"))
BY_STRING = Method("The same.", updater="{me}:Mine", growth=("gradient",))
"""


def topologies(steps: int = 40, **fields: object) -> list[torch.Tensor]:
    config = dict(sparsity=0.7, update_every=5, horizon=60) | fields
    net, optimizer, engine = built(config)
    train(net, optimizer, range(steps))
    assert engine.updates > 0
    return [tensor.active() for tensor in engine.tensors]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize(
    ("method", "named"),
    [
        ("set", dict(method="rigl")),
        ("rigl", dict(method="rigl")),
        ("rigl_itop", dict(method="rigl_itop")),
        ("srigl", dict(method="srigl")),
        ("mest", dict(method="rigl", drop="magnitude_gradient", slack=0.0)),
        ("granet", dict(method="granet")),
    ],
)
def test_every_method_that_grows_can_use_an_own_rule(own_module, method, named, backend):
    rule = f"{own_module(RULES)}:steepest"
    assert same(topologies(method=method, growth=rule, backend=backend), topologies(**named))


def test_a_method_that_moves_weights_between_layers_can_use_one(own_module):
    rule = f"{own_module(RULES)}:steepest"
    named = topologies(method="snfs", growth="gradient")
    assert same(topologies(method="snfs", growth=rule), named)


def test_a_method_that_samples_can_use_a_rule_that_does(own_module):
    rule = f"{own_module(RULES)}:every_other"
    config = dict(method="gse", growth=rule, sparsity=0.7, update_every=5, horizon=60)
    net, optimizer, engine = built(config)
    before = [tensor.active().reshape(-1)[::2].clone() for tensor in engine.tensors]
    train(net, optimizer, range(5))
    assert engine.updates == 1 and seen_by(engine.config) == "sample"
    for tensor, active in zip(engine.tensors, before, strict=True):
        assert not bool((tensor.active().reshape(-1)[::2] & ~active).any())


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_an_own_drop_rule_takes_the_place_of_a_named_one(own_module, backend):
    rule = f"{own_module(RULES)}:smallest"
    found = topologies(method="rigl", drop=rule, backend=backend)
    assert same(found, topologies(method="rigl"))


def test_pruning_can_use_an_own_drop_rule(own_module):
    rule = f"{own_module(RULES)}:smallest"
    assert same(topologies(60, method="gmp", drop=rule), topologies(60, method="gmp"))


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_an_own_rule_sees_inputs_and_output_gradients(own_module, backend):
    """One update by hand: the inactive positions of the highest |dy|^T |x| grow."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5, dtype=torch.float64))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    config = SparseConfig(
        method="set", growth=f"{own_module(RULES)}:hebbian", sparsity=0.5, update_every=1,
        drop_fraction=0.4, backend=backend,
    )  # fmt: skip
    engine = sparsify(net, config, optimizer)
    (tensor,) = engine.tensors
    before, weight = tensor.active().clone(), tensor.values().clone()
    x = torch.randn(7, 6, dtype=torch.float64)
    output = net(x)
    output.retain_grad()
    output.pow(2).sum().backward()
    optimizer.step()
    scores = output.grad.abs().T @ x.abs()
    order = weight.abs().masked_fill(~before, float("inf")).reshape(-1).argsort()
    expected = before.clone()
    expected.view(-1)[order[:6]] = False  # floor(0.4 * 15)
    candidates = scores.masked_fill(expected, -1).reshape(-1).argsort(descending=True)
    expected.view(-1)[candidates[:6]] = True
    assert torch.equal(tensor.active(), expected)


def test_signals_of_a_block_of_rows_are_those_of_the_matrix(own_module):
    name = own_module(RULES)
    config = dict(method="set", growth=f"{name}:hebbian", sparsity=0.5, update_every=2)
    net, optimizer, engine = built(config | dict(backend="condensed"))
    train(net, optimizer, range(1))
    loss = net(torch.randn(8, 12)).square().sum()
    loss.backward()
    rules = engine.updater.drop_score, engine.updater.grow_score
    moment = Moment(step=1, update=0, fraction=0.3)
    for tensor in engine.tensors:
        whole = Ranked.of(tensor, moment, *rules)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sparse_core.kernels.topk.BLOCK_ELEMENTS", 30)
            blocks = RankedInBlocks.of(tensor, moment, *rules)
            delta = blocks.refill(blocks.strongest(20), blocks.capacity())
        expected = whole.refill(whole.strongest(20), whole.capacity())
        assert torch.equal(delta.grown, expected.grown)
        assert torch.equal(delta.dropped, expected.dropped)


def test_a_rule_that_says_nothing_of_blocks_sees_whole_matrices(own_module, monkeypatch):
    monkeypatch.setattr("sparse_core.weights.condensed.BLOCKS_ABOVE", 0)
    rule = f"{own_module(RULES)}:of_weak_neurons"
    fields = dict(method="set", drop=rule, backend="condensed")
    assert same(topologies(**fields), topologies(**fields | dict(backend="masked")))


@pytest.mark.parametrize("name", ["MINE", "BY_STRING"])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_an_own_method_trains_as_the_one_that_it_copies(own_module, name, backend):
    method = f"{own_module(METHOD)}:{name}"
    assert same(topologies(method=method, backend=backend), topologies(method="rigl"))


def test_an_own_distribution_shares_the_budget(own_module):
    name = own_module("def first(weight): return 3 if weight.role == 'input' else 1")
    config = SparseConfig(sparsity=0.5, distribution=f"{name}:first")
    counts = budgets(select(mlp(10, 20, 20)), config, structure_for("unstructured"))
    assert list(counts.values()) == [180, 120]  # 3 * 200 and 400 of 1000 shares, of 300 weights


def test_networks_with_own_rules_can_be_copied_and_saved(own_module, tmp_path):
    config = dict(method="set", growth=f"{own_module(RULES)}:steepest", sparsity=0.7)
    net, _, _ = built(config)
    twin = copy.deepcopy(net)
    torch.save(net, tmp_path / "net.pt")
    loaded = torch.load(tmp_path / "net.pt", weights_only=False)
    for other in (twin, loaded):
        assert other.sparse_engine.config == net.sparse_engine.config
        assert other.sparse_engine.updater.grow_score is net.sparse_engine.updater.grow_score


# Identity -----------------------------------------------------------------------------------------


def test_a_reference_to_ours_is_our_name():
    scores = "sparse_core.updaters.scores"
    config = SparseConfig(
        method="set", growth=f"{scores}:unfired", drop=f"{scores}:signed",
        distribution="sparse_core.budgets.densities:er",
    )  # fmt: skip
    named = SparseConfig(method="set", growth="unfired", drop="signed", distribution="er")
    assert config.canonical() == named
    own = replace(config, growth=f"{scores}:random", drop=f"{scores}:magnitude")
    assert own.canonical() == SparseConfig(method="set", distribution="er")


def test_what_is_the_users_own_stays_as_it_is(own_module):
    rules, method = own_module(RULES), own_module(METHOD)
    config = SparseConfig(method=f"{method}:MINE", growth=f"{rules}:steepest", slack=0.1)
    assert config.canonical() == replace(config, slack=0.0)
    assert config.in_force() == {
        "growth": f"{rules}:steepest", "drop": "magnitude", "structure": "unstructured",
    }  # fmt: skip
    own = SparseConfig(method=f"{method}:MINE", growth="gradient", structure="unstructured")
    assert own.canonical() == SparseConfig(method=f"{method}:MINE")
    assert seen_by(own) == "gradient"


def test_an_own_rule_without_torch_leaves_the_configuration_without(tmp_path: Path):
    (tmp_path / "rules.py").write_text(RULES)
    (tmp_path / "shares.py").write_text("def alike(weight): return 1.0")
    code = (
        "import sys\nfrom sparse_core.config import SparseConfig\n"
        "config = SparseConfig(method='set', growth='rules:hebbian', drop='rules:smallest',"
        " distribution='shares:alike')\n"
        "config.canonical(), config.in_force()\nsys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}:{root}"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0


# Errors -------------------------------------------------------------------------------------------

WRONG = """
from sparse_core import Method, drop_rule, growth_rule

def plain(scene): return scene.weight

@growth_rule(samples=True)
def sampling(scene): return scene.weight

@growth_rule(needs="momentum")
def steady(scene): return scene.gradient

@growth_rule()
def flat(scene): return scene.weight.reshape(-1)

@growth_rule()
def whole_numbers(scene): return scene.active.long()

@drop_rule(needs="signals")
def inputs(scene): return scene.inputs

class NoUpdater: pass

EMPTY = Method("Nothing to grow by.", updater="sparse_core.updaters.rigl:RigL")
NONE = Method("Drops nothing.", "sparse_core.updaters.set:SET", growth=("random",), drop=None)
WRONG = Method("No updater.", updater=NoUpdater, growth=("random",))
LOST = Method("No such updater.", updater="{me}:Updater", growth=("random",))
"""

AT_ONCE = [
    (dict(method="set", growth="{me}:plain"), "a function declared with @growth_rule"),
    (dict(method="set", growth="{me}:inputs"), "a function declared with @growth_rule"),
    (dict(method="set", growth="{me}:missing"), "has no 'missing'; it must be a function decl"),
    (dict(method="set", drop="{me}:plain"), "is a function in .* must be a function declared with"),
    (dict(method="set", drop="{me}:flat"), "a function declared with @drop_rule"),
    (dict(method="{me}:plain"), r"is a function in .*\.py\), must be a sparse_core.Method"),
    (dict(method="{me}:NoUpdater"), "is the class NoUpdater in .*, must be a sparse_core.Method"),
    (dict(distribution="{me}:EMPTY"), "is a Method in .*must be a function of a layer's weight"),
    (dict(method="static", growth="{me}:steady"), "method 'static' grows nothing"),
    (dict(method="topkast", growth="{me}:steady"), "method 'topkast' grows nothing"),
    (
        dict(method="rigl", growth="{me}:sampling"),
        r"samples=True in .*\.py, method 'rigl' needs samples=False",
    ),
    (
        dict(method="gse", growth="{me}:steady"),
        r"samples=False in .*\.py, method 'gse' needs samples=True",
    ),
    (dict(method="set", growth="no_such_module:rule"), "there is no module 'no_such_module'"),
    (dict(method="no_such_module:M"), "there is no module 'no_such_module'"),
    (dict(growth="sparse_core.updaters.scores:random"), "method 'rigl' can use gradient, momentum"),
]

LATER = [
    (dict(method="{me}:EMPTY"), "its updater grows by a rule, but its `growth` is empty"),
    (dict(method="{me}:NONE"), "its updater drops by a rule, but its `drop` is None"),
    (dict(method="{me}:WRONG"), "must be a subclass of sparse_core.updaters.Updater"),
    (dict(method="{me}:LOST"), "updater='.*:Updater': module .* has no 'Updater'"),
    (
        dict(method="set", growth="{me}:steady", drop="{me}:inputs"),
        "growth=.*steady': needs momentum, and drop=.*inputs' needs signals",
    ),
]


def filled(fields: dict[str, object], name: str) -> dict[str, object]:
    return {k: v.replace("{me}", name) if isinstance(v, str) else v for k, v in fields.items()}


@pytest.mark.parametrize(("fields", "message"), AT_ONCE)
def test_what_cannot_be_is_said_in_one_line(own_module, fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        SparseConfig(**filled(fields, own_module(WRONG)))
    assert "\n" not in str(caught.value)
    assert caught.value.field in fields


@pytest.mark.parametrize(("fields", "message"), LATER)
def test_what_a_method_cannot_do_is_said_before_the_network_changes(own_module, fields, message):
    config = SparseConfig(**filled(fields, own_module(WRONG)))
    net = mlp(4, 6, 2)
    with pytest.raises(ValueError, match=message) as caught:
        sparsify(net, config)
    assert "\n" not in str(caught.value)
    assert type(net[0]) is torch.nn.Linear and not hasattr(net, "sparse_engine")


def test_a_drop_rule_that_looks_at_signals_needs_linear_layers(own_module):
    net = torch.nn.Sequential(torch.nn.Conv1d(2, 4, 2), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    config = SparseConfig(method="set", drop=f"{own_module(WRONG)}:inputs", sparsity=0.5)
    with pytest.raises(ValueError, match=r"drop='.*': layer '0.weight' .* keep it dense$"):
        sparsify(net, config)


@pytest.mark.parametrize(
    ("rule", "found"),
    [("flat", r"a tensor of shape \(192,\)"), ("whole_numbers", r"a tensor .* and torch\.int64")],
)
def test_a_rule_must_return_a_score_for_each_weight(own_module, rule, found):
    net, optimizer, _ = built(
        dict(method="set", growth=f"{own_module(WRONG)}:{rule}", update_every=1)
    )
    said = rf"^growth='.*:{rule}' \(.*\.py\): layer '0.weight': the grow score is {found}"
    message = rf"{said}.*, must be .* shape \(16, 12\)"
    with pytest.raises(ValueError, match=message):
        train(net, optimizer, range(1))


@pytest.mark.parametrize(
    "returned", ["0", "-1.0", "float('inf')", "float('nan')", "'much'", "None"]
)
def test_a_distribution_must_return_a_positive_number(own_module, returned):
    name = own_module(f"def wrong(weight): return {returned}")
    with pytest.raises(
        ValueError, match=r"distribution='.*:wrong': returns .* '0.weight', must be"
    ):
        sparsify(mlp(4, 6, 2), SparseConfig(distribution=f"{name}:wrong", sparsity=0.5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "@growth_rule(needs='hessian')\ndef f(scene): ...",
            "needs='hessian': must be one of noth",
        ),
        ("M = Method('x', growth='random')", r"growth='random': must be a tuple of names"),
        ("M = Method('x', moves='far')", "moves='far': must be one of nowhere, within lanes"),
        ("M = Method('x', structures=('2:4',))", "structures='2:4': must be one of unstructured"),
    ],
)
def test_wrong_declarations_are_found_when_the_module_is_read(own_module, text, message):
    name = own_module(f"from sparse_core import Method, growth_rule\n{text}\n")
    with pytest.raises(ValueError, match=rf"cannot be imported: InputError: {message}"):
        SparseConfig(method=f"{name}:M")
