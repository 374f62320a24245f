"""Grids: what a file stands for, run by run, and what is said when it is wrong."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_core.checks import InputError
from sweeps.commands.plan import rows
from sweeps.language.grid import Grid, load_grid, make_run, packaged, parse
from sweeps.language.spec import load, plain
from sweeps.store.directory import RunDir
from sweeps.tuning.cells import tuned_cells
from tests.sweeps.language.sizes import check_sizes
from tests.sweeps.toys import KIND

Toys = Callable[[str], Grid]


def told(grid: Grid) -> list[str]:
    """Return each run as a few words."""
    return [
        f"{run.spec.sparse.method} {run.spec.sparse.distribution} {run.spec.rate:g} {run.spec.seed}"
        for run in grid.runs
    ]


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("kind: toy", ["dense erk 0.001 0"]),
        ("kind: toy\nseeds: 2", ["dense erk 0.001 0", "dense erk 0.001 1"]),
        ("kind: toy\nseeds: [4, 2, 4]", ["dense erk 0.001 4", "dense erk 0.001 2"]),
        ("kind: toy\nbase: {rate: 1e-2}", ["dense erk 0.01 0"]),
        (
            "kind: toy\ngrid: {sparse.method: [static, set], rate: [1, 2]}\nseeds: 1",
            ["static erk 1 0", "static erk 2 0", "set erk 1 0", "set erk 2 0"],
        ),
        (
            "kind: toy\nbase: {sparse: {method: set}, rate: 3}\ngrid: {rate: [1, 2]}",
            ["set erk 1 0", "set erk 2 0"],
        ),
        (  # dense runs once, not once for each distribution
            "kind: toy\ngrid: {sparse.method: [dense, set], sparse.distribution: [erk, uniform]}",
            ["dense erk 0.001 0", "set erk 0.001 0", "set uniform 0.001 0"],
        ),
        (
            "kind: toy\ngrid: {sparse.method: [static, set], rate: [1, 2]}\n"
            "exclude: [{sparse.method: set, rate: '2e0'}]",
            ["static erk 1 0", "static erk 2 0", "set erk 1 0"],
        ),
        (  # a field that the grid does not name is matched by its default
            "kind: toy\ngrid: {rate: [1, 2]}\nexclude: [{rate: 1, sparse.distribution: erk}]",
            ["dense erk 2 0"],
        ),
        (
            "kind: toy\ngrid: {rate: [1, 2]}\nexclude: [{rate: 1, sparse.distribution: uniform}]",
            ["dense erk 1 0", "dense erk 2 0"],
        ),
        (  # what is included is added to the product, and stands alone without one
            "kind: toy\ngrid: {rate: [1]}\ninclude: [{sparse.method: set}]",
            ["dense erk 1 0", "set erk 0.001 0"],
        ),
        ("kind: toy\nbase: {rate: 2}\ninclude: [{sparse: {method: set}}]", ["set erk 2 0"]),
        (  # an axis may set several fields together
            "kind: toy\ngrid: {sparse: [{method: static}, {method: set, distribution: uniform}]}",
            ["static erk 0.001 0", "set uniform 0.001 0"],
        ),
        (  # fields that go together, place by place, are one more axis
            "kind: toy\ngrid: {rate: [1, 2]}\n"
            "zip: {sparse.method: [static, set], sparse.distribution: [erk, uniform]}",
            ["static erk 1 0", "set uniform 1 0", "static erk 2 0", "set uniform 2 0"],
        ),
        (
            "blocks:\n- {kind: toy, base: {rate: 1}}\n- {kind: toy, grid: {rate: [1, 2]}}",
            ["dense erk 1 0", "dense erk 2 0"],
        ),
    ],
)
def test_a_grid_expands_to_these_runs(toys: Toys, text: str, runs: list[str]) -> None:
    assert told(toys(text)) == runs


def test_an_excluded_combination_need_not_be_valid(toys: Toys) -> None:
    grid = toys(
        "kind: toy\ngrid: {sparse.sparsity: [0.5, 2], sparse.method: [set]}\n"
        "exclude: [{sparse.sparsity: 2}]"
    )
    assert [run.spec.sparse.sparsity for run in grid.runs] == [0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: toi", "kind='toi': must be one of rl, cl, crl, xmc, vision, rec, toy"),
        ("seeds: 1", "kind=None: must be one of rl, cl, crl, xmc, vision, rec, toy"),
        ("kind: toy\nseeds: 0", "seeds=0: must be a number of at least 1, or a list of seeds >= 0"),
        ("kind: toy\nseeds: true", "seeds=True: must be a number of at least 1, or a list"),
        ("kind: toy\nseeds: []", "seeds=[]: must be a number of at least 1, or a list"),
        ("kind: toy\nseeds: [-1]", "seeds=[-1]: must be a number of at least 1, or a list"),
        ("kind: toy\nseeds: 100000000", "100,000,000 runs: a block can have at most 100,000"),
        (
            "kind: toy\ngrid: {points: [1, 2], rate: [1, 2]}\nseeds: 25001",
            "100,004 runs: a block can have at most 100,000",
        ),
        ("kind: toy\nsedes: 3", "sedes: unknown key; did you mean 'seeds'?"),
        ("kind: toy\nbase: {rat: 3}", "base.rat: unknown key; did you mean 'rate'?"),
        ("kind: toy\nbase: {rate: high}", "base.rate='high': must be a number"),
        ("kind: toy\nbase: {rate: 0}", "rate=0.0: must be a positive number"),
        ("kind: toy\nbase: [rate]", "base=['rate']: must be a mapping of fields to values"),
        ("kind: toy\nbase: {seed: 3}", "base.seed: give 'seeds' of the block instead"),
        ("kind: toy\nbase: {rate: 1, rate: 2}", "rate: given twice (line "),
        (
            "kind: toy\nbase: {sparse.method: set, sparse: {method: set}}",
            "base.sparse.method: given",
        ),
        ("kind: toy\ngrid: {rate: 3}", "grid.rate=3: must be a list of at least one value"),
        ("kind: toy\ngrid: {rate: []}", "grid.rate=[]: must be a list of at least one value"),
        ("kind: toy\ngrid: {rate: [1, x]}", "grid.rate='x': must be a number"),
        ("kind: toy\ngrid: [rate]", "grid=['rate']: must be a mapping of fields to lists"),
        ("kind: toy\ngrid: {sparse.methd: [set]}", "grid.sparse.methd: unknown key; did you mean"),
        ("kind: toy\ngrid: {sparse.method: [sett]}", "sparse.method='sett': must be one of dense"),
        ("kind: toy\ngrid: {sparse.sparsity: [1.0], sparse.method: [set]}", "sparse.sparsity=1.0:"),
        ("kind: toy\nzip: [rate]", "zip=['rate']: must be a mapping of fields to lists"),
        ("kind: toy\nzip: {rate: 1}", "zip.rate=1: must be a list of at least one value"),
        (
            "kind: toy\nzip: {rate: [1, 2], points: [1, 2, 3]}",
            "zip: must be lists of one length; rate has 2, points has 3",
        ),
        ("kind: toy\nzip: {rat: [1]}", "zip.rat: unknown key; did you mean 'rate'?"),
        ("kind: toy\nzip: {rate: [1]}\ngrid: {rate: [1]}", "rate: is on two axes of the grid"),
        ("kind: toy\ninclude: [{rate: 0}]", "include.rate=0.0: must be a positive number"),
        ("question: [a]\nkind: toy", "question=['a']: must be a line that ends with '?'"),
        ("question: Why.\nkind: toy", "question='Why.': must be a line that ends with '?'"),
        (f"question: {'a' * 100}?\nkind: toy", "question='aaa"),
        ("minutes: 0\nkind: toy", "minutes=0: must be a positive number"),
        ("minutes: null\nkind: toy", "minutes=None: must be a positive number"),
        ("tuned: yes\nkind: toy", "tuned=True: must be a mapping with 'grid', 'trials' and"),
        ("tuned: {grid: a, seeds: [1]}\nkind: toy", "tuned.trials: missing, it has no default"),
        ("tuned: {grid: a, trials: 0, seeds: [1]}\nkind: toy", "tuned.trials=0: must be an int"),
        ("tuned: {grid: a, trials: 1, seeds: []}\nkind: toy", "tuned.seeds=[]: must be a list"),
        ("kind: toy\ninclude: {rate: 1}", "include={'rate': 1}: must be a list of mappings"),
        ("kind: toy\ninclude: [{rt: 1}]", "include.rt: unknown key"),
        ("kind: toy\nexclude: [{rates: 1}]", "exclude.rates: unknown key; did you mean 'rate' or"),
        ("kind: toy\nexclude: [{}]", "exclude=[{}]: must be a list of mappings"),
        ("kind: toy\nexclude: [{rate: 1e-3}]", "exclude: leaves no run at all"),
        ("blocks: []", "blocks: must be a list of at least one block"),
        ("blocks: [3]", "block 1: 3: must be a mapping with kind, base, grid"),
        ("blocks:\n- kind: toy\n- kind: toy\n  bse: {}", "block 2: bse: unknown key; did you mean"),
        ("blocks: []\nkind: toy", "kind: with 'blocks' it belongs into one of them"),
        ("kind: [", "not valid YAML: expected the node content, but found '<stream end>' (line"),
        ("kind: toy\n? [a]\n: b", "['a']: a key must be text (quote it)"),
    ],
)
def test_wrong_grids_are_refused_in_one_line(toys: Toys, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        toys(text)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be a mapping with 'name' and 'blocks'"),
        ("kind: rl", "name=None: must be text of letters, digits"),
        ("name: a/b\nkind: rl", "name='a/b': must be text of letters, digits"),
        ("name: ..\nkind: rl", "name='..': must be text of letters, digits"),
        ("name: a\nkinds: 3\nkind: rl", "kinds=3: must be a mapping of names to kinds"),
        (
            "name: a\nkinds: {b: 1}\nkind: b",
            "kinds.b=1: must be a mapping with 'spec' and 'runner'",
        ),
        ("name: a\nkinds: {b: {spec: x}}\nkind: b", "kinds.b.runner: missing, it has no default"),
        (
            "name: a\nkinds: {b: {spec: nowhere.at:All, runner: x:y}}\nkind: b",
            "kinds.b.spec='nowhere.at:All': there is no module 'nowhere.at' here or among what is",
        ),
        (
            "name: a\nkinds: {b: {spec: tests.sweeps.toys:No, runner: x:y}}\nkind: b",
            "kinds.b.spec='tests.sweeps.toys:No': module 'tests.sweeps.toys' (",
        ),
        (
            "name: a\nkinds: {b: {spec: json, runner: x:y}}\nkind: b",
            "kinds.b.spec='json': must be package.module:NAME of a dataclass with a field 'seed'",
        ),
        (
            "name: a\nkinds: {b: {spec: os:environ, runner: x:y}}\nkind: b",
            "kinds.b.spec='os:environ': is a _Environ in 'os'",
        ),
        (
            "name: a\nkinds: {b: {spec: os:getcwd, runner: x:y}}\nkind: b",
            "kinds.b.spec='os:getcwd': is a builtin_function_or_method in 'os'",
        ),
    ],
)
def test_wrong_frames_are_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse(text)
    assert str(error.value).startswith(message)


WAY_OUT = "; leave out what cannot be run with 'exclude: {}', or use 'blocks'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "grid: {sparse.method: [set, rigl], sparse.growth: [random, gradient]}",
            "sparse.growth='gradient': method 'set' can use random, unfired, importance, "
            "epitopological_soft, epitopological"
            + WAY_OUT.format(
                "[{sparse.method: set, sparse.growth: gradient}, "
                "{sparse.method: rigl, sparse.growth: random}]"
            ),
        ),
        (  # a third axis plays no part; one that is not to blame is not named
            "grid: {sparse.method: [set, static], sparse.growth: [null, gradient], tasks: [2, 3]}\n"
            "exclude: [{sparse.method: static, sparse.growth: gradient}]",
            "sparse.growth='gradient': method 'set' can use random, unfired, importance, "
            "epitopological_soft, epitopological",
        ),
        (
            "grid: {sparse.method: [rigl], sparse.growth: [random, gradient]}",
            "sparse.growth='random': method 'rigl' can use gradient, momentum, adam_momentum, "
            "candidates",
        ),
        (
            "grid: {sparse.method: [set, rigl], sparse.sparsity: [0.5, 1.5]}",
            "sparse.sparsity=1.5: must be a number in [0, 1)",
        ),
    ],
)
def test_a_value_that_is_wrong_beside_another_has_a_way_out(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        parse(f"name: x\nkind: cl\n{text}")
    assert str(error.value) == message


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\n{KIND}\nblocks:\n- kind: toy\n  grid: {{rat: [1]}}\n")
    with pytest.raises(InputError) as error:
        load_grid(str(path))
    assert str(error.value) == f"{path}: block 1: grid.rat: unknown key; did you mean 'rate'?"


def test_a_missing_grid_names_the_packaged_ones() -> None:
    with pytest.raises(InputError, match=r"^grid 'quick': no such file, .*\(those: .*quickstart"):
        load_grid("quick")


@pytest.mark.parametrize("name", packaged())
def test_packaged_grids_are_valid_and_named_like_their_files(name: str, tmp_path: Path) -> None:
    if name == "mujoco_presets":
        pytest.importorskip("mujoco", reason="its presets look at the environment's sizes")
    grid = load_grid(name)
    assert grid.name == name
    assert grid.header.question and grid.header.minutes
    cells = rows(grid, {run.run_id: RunDir(tmp_path / run.run_id) for run in grid.runs}, tmp_path)
    assert sum(row.left for row in cells) == len(grid.runs)
    if not name.startswith("mujoco") or importlib.util.find_spec("mujoco"):
        check_sizes(grid)


@pytest.mark.parametrize(
    "cell",
    [
        "rl, base: {sparse.dense: [input], sparse.dense_in_budget: true}",
        "rl, base: {sparse.method: static, tiny: true}",
        "crl, base: {}",
        "cl, base: {isolation: none, sparse.method: srigl}",
        "cl, base: {isolation: hard, sparse.method: srigl}",
        "vision, base: {dataset: mnist, network: mlp, width: 8}",
        "xmc, base: {sparse.method: srigl}",
        "rec, base: {sparse.structure: constant_fan_in}",
    ],
)
def test_a_cell_that_no_network_can_hold_is_found(cell: str) -> None:
    text = f"name: x\nblocks: [{{kind: {cell}, grid: {{sparse.sparsity: [0.9999]}}}}]"
    grid = parse(text)
    with pytest.raises(InputError, match="sparsity"):
        check_sizes(grid)


@pytest.mark.parametrize("name", ["quickstart", "continual_rl"])
def test_runs_of_other_seeds_are_what_they_would_be_if_made_anew(name: str) -> None:
    for run in load_grid(name).runs:
        anew = make_run(run.kind_name, run.kind, load(type(run.spec), plain(run.spec)))
        assert (anew.run_id, anew.spec, anew.sources) == (run.run_id, run.spec, run.sources)


def test_a_seed_that_is_none_is_refused_wherever_it_stands() -> None:
    with pytest.raises(InputError, match=r"^seed=4294967296: must be less than 2\^32$"):
        parse("name: x\nkind: rl\nseeds: [0, 4294967296]")


@pytest.mark.parametrize(
    ("name", "count"),
    [("rl_tuning", 2 * 4), ("rl_noise", 6 * 3 - 1), ("mujoco_width", 1 + 2 * 4)],
)
def test_methods_are_tuned_alike(name: str, count: int) -> None:
    cells = tuned_cells(load_grid(name))
    assert len(cells) == count
    assert all(list(cell.spaces) == ["hyper.learning_rate"] for cell in cells)


def test_quickstart_is_the_promised_grid() -> None:
    runs = load_grid("quickstart").runs
    rl = {(r.spec.sparse.method, r.spec.sparse.distribution) for r in runs if r.kind_name == "rl"}
    cl = {(r.spec.sparse.method, r.spec.sparse.distribution) for r in runs if r.kind_name == "cl"}
    sparse_cl = set(itertools.product(("static", "rigl", "srigl"), ("erk", "uniform")))
    assert cl == {("dense", "erk")} | sparse_cl
    assert rl == cl | {("set", "erk"), ("set", "uniform")}
    assert len(runs) == 3 * (9 + 7)
    assert {run.spec.sparse.sparsity for run in runs if run.kind_name == "rl"} == {0.0, 0.9}


def test_runs_of_many_seeds_are_those_that_each_would_be_alone(toys: Toys) -> None:
    text = "kind: toy\ngrid: {sparse.method: [dense, set], rate: [1, 2]}\n"
    together = toys(f"{text}seeds: 5").runs
    alone = [run for seed in range(5) for run in toys(f"{text}seeds: [{seed}]").runs]
    assert {run.run_id: run.spec for run in together} == {run.run_id: run.spec for run in alone}
