"""A method's facts stand in the registry: no other file asks for a method's name."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

import sparse_core
from sparse_core import SparseConfig
from sparse_core.method import Method
from sparse_core.naming import drop_rule_named, growth_rule_named
from sparse_core.registry import DROP_RULES, GROWTH_RULES, METHODS
from sparse_core.rules import NEEDS, drop_of, growth_of
from sparse_core.updaters import Updater, updater_for

ROOT = Path(sparse_core.__file__).parent
FILES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if path.name != "registry.py" and path.parent.name != "updaters"
)


def methods_asked_for(tree: ast.AST) -> list[tuple[int, str]]:
    """List the names of methods that an expression compares with, or a table has for a key."""
    found = []
    for node in ast.walk(tree):
        asked: list[ast.AST] = []
        if isinstance(node, ast.Compare | ast.match_case):
            asked = list(ast.walk(node))
        elif isinstance(node, ast.Dict):
            asked = [key for key in node.keys if key is not None]
        found += [
            (leaf.lineno, leaf.value)
            for leaf in asked
            if isinstance(leaf, ast.Constant) and leaf.value in METHODS
        ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_but_the_registry_asks_for_a_methods_name(path: Path) -> None:
    assert methods_asked_for(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("x == 'rigl'", ["rigl"]),
        ("if config.method in ('gmp', 'granet'): pass", ["gmp", "granet"]),
        ("table = {'snfs': 3, 'other': 4}", ["snfs"]),
        ("match x:\n    case 'set': pass", ["set"]),
        ("method = 'rigl'", []),
    ],
)
def test_a_file_that_asks_is_found(text: str, names: list[str]) -> None:
    assert [name for _, name in methods_asked_for(ast.parse(text))] == names


@pytest.mark.parametrize("name", METHODS)
def test_facts_name_what_there_is(name: str) -> None:
    method = METHODS[name]
    fields = {field.name for field in dataclasses.fields(SparseConfig)}
    assert set(method.fields) <= fields
    assert set(method.growth) <= set(GROWTH_RULES)
    assert method.drop is None or method.drop in DROP_RULES
    assert method.cost is None or method.cost in NEEDS
    assert (method.updater is None) == (method.moves == "nowhere")


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_the_updater_that_it_names(name: str) -> None:
    extra = dict(structure="2:4", sparsity=0.5) if METHODS[name].structures == ("N:M",) else {}
    updater = updater_for(SparseConfig(method=name, **extra))
    assert (updater is None) == (METHODS[name].updater is None)
    assert updater is None or (isinstance(updater, Updater) and updater.method is METHODS[name])


@pytest.mark.parametrize("name", METHODS)
def test_the_rules_of_a_method_sample_if_it_does(name: str) -> None:
    for rule in METHODS[name].growth:
        facts = growth_of(growth_rule_named(rule))
        assert facts is not None and facts.samples == METHODS[name].samples


def test_what_each_rule_needs() -> None:
    growth = {name: growth_of(growth_rule_named(name)) for name in GROWTH_RULES}
    assert {name: facts and facts.needs for name, facts in growth.items()} == {
        "random": "nothing",
        "unfired": "nothing",
        "gradient": "gradient",
        "momentum": "momentum",
        "adam_momentum": "momentum",
        "importance": "active_gradient",
        "epitopological": "nothing",
        "epitopological_soft": "nothing",
        "candidates": "signals",
        "sampled": "gradient",
        "sampled_grabo": "signals",
        "sampled_graest": "signals",
    }
    drop = {name: drop_of(drop_rule_named(name)) for name in DROP_RULES}
    assert {name: facts and facts.needs for name, facts in drop.items()} == {
        "magnitude": "nothing",
        "signed": "nothing",
        "sensitivity": "active_gradient",
        "magnitude_gradient": "active_gradient",
        "soft_magnitude": "nothing",
    }


OWNED = [
    ("rigl", dict(ablation=False, ablation_threshold=0.5, slack=0.2, penalty=0.1)),
    ("srigl", dict(slack=0.2, penalty=0.1, prune_from=0.5)),
    ("mest", dict(penalty=0.1, backward_sparsity=0.1)),
    ("topkast", dict(slack=0.2, prune_from=0.5, drop="signed")),
    ("sr_ste", dict(backward_sparsity=0.1, update_every=7, structure="2:4", sparsity=0.5)),
    ("edge_popup", dict(penalty=0.1, update_every=7, drop="signed")),
    ("gmp", dict(slack=0.2, ablation=False)),
]


@pytest.mark.parametrize(("method", "fields"), OWNED, ids=[name for name, _ in OWNED])
def test_fields_of_other_methods_play_no_part(method: str, fields: dict[str, object]) -> None:
    kept = {name: fields[name] for name in ("structure", "sparsity") if name in fields}
    assert SparseConfig(method=method, **fields).canonical() == SparseConfig(method=method, **kept)


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("srigl", "ablation_sticky", True),
        ("mest", "slack", 0.2),
        ("topkast", "backward_sparsity", 0.1),
        ("topkast", "penalty", 0.1),
        ("granet", "prune_from", 0.5),
        ("one_shot", "initial_sparsity", 0.5),
    ],
)
def test_a_methods_own_fields_do(method: str, field: str, value: object) -> None:
    config = SparseConfig(method=method, **{field: value})  # type: ignore[arg-type]
    assert getattr(config.canonical(), field) == value


def test_a_method_moves_weights_between_layers_by_nature_or_by_a_common_ranking() -> None:
    crossing = {n for n, method in METHODS.items() if method.moves_between_layers("layer")}
    assert crossing == {"snfs"}
    able = {n for n, method in METHODS.items() if method.global_scope}
    crossing = {n for n in able if METHODS[n].moves_between_layers("global")}
    assert crossing == {"gse"}  # static moves nothing, pruning gives nothing to another layer


def test_a_method_is_sparse_and_stays_within_lanes_unless_it_says_otherwise() -> None:
    method = Method("Mine.")
    assert method.sparse and method.stops and method.moves == "within lanes"
    assert not method.starts_dense and not method.latent and method.growth == ()
