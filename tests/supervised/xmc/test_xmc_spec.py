"""`XMCSpec`: what it accepts, what it says otherwise, and which runs are the same run."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from supervised.xmc.spec import XMCSpec

OWN = "package.module:NAME of your own"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dataset", "", "dataset='': must name a data set"),
        ("split", -1, "split=-1: must be an integer of at least 0"),
        ("test_fraction", 0, "test_fraction=0: must be a positive number"),
        ("valid_fraction", 1, "valid_fraction=1: must be a number in [0, 1)"),
        ("unlabelled", "lose", "unlabelled='lose': must be one of refuse, drop, keep"),
        ("intermediate", 0, "intermediate=0: must be an integer of at least 1"),
        ("auxiliary", 10, "auxiliary=10: is for runs with an intermediate layer"),
        ("auxiliary_weight", 2, "auxiliary_weight=2: must be a number in [0, 1]"),
        ("loss", "hinge", "loss='hinge': must be one of squared_hinge, bce, softmax, or " + OWN),
        ("block", 0, "block=0: must be an integer of at least 1"),
        ("epochs", 1.5, "epochs=1.5: must be an integer of at least 1"),
        ("patience", 0, "patience=0: must be an integer of at least 1"),
        ("optimizer", "lion", "optimizer='lion': must be one of adam, sgd, or " + OWN),
        ("lr", float("nan"), "lr=nan: must be a positive number"),
        ("propensity", (0.5,), "propensity=(0.5,): must be two numbers, A and B"),
        ("propensity", (0.5, 0), "propensity=0: must be a positive number"),
        ("seed", -1, "seed=-1: must be an integer of at least 0"),
    ],
)
def test_wrong_values_are_named_in_one_line(field, value, said):
    with pytest.raises(InputError) as caught:
        XMCSpec(**{field: value})
    assert str(caught.value) == said and caught.value.field == field


@pytest.mark.parametrize(
    "sparse",
    [
        SparseConfig(method="srigl", never_ablate=()),
        SparseConfig(method="rigl", structure="neurons", never_ablate=("input",)),
    ],
)
def test_no_label_may_be_deleted(sparse):
    with pytest.raises(InputError, match=r"sparse.never_ablate=\(.*\): must hold 'output', or"):
        XMCSpec(sparse=sparse)
    XMCSpec(sparse=SparseConfig(method="srigl", ablation=False, never_ablate=()))


def test_modules_of_ones_own_are_looked_for_and_not_imported(tmp_path, monkeypatch):
    (tmp_path / "own_loss.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    XMCSpec(dataset="own_loss:X", loss="own_loss:Y", optimizer="torch.optim:SGD").check_data()
    with pytest.raises(InputError, match="loss='nowhere:Y': there is no module 'nowhere' here"):
        XMCSpec(dataset="own_loss:X", loss="nowhere:Y").check_data()


def same(one: XMCSpec, other: XMCSpec) -> bool:
    return one.canonical() == other.canonical()


def test_canonical_specs_of_the_same_run_are_equal():
    spec = XMCSpec(intermediate=8, auxiliary=3)
    assert same(spec, dataclasses.replace(spec, sparse=dataclasses.replace(spec.sparse, seed=3)))
    idle = dataclasses.replace(spec, auxiliary_weight=0.0)
    assert same(idle, XMCSpec(intermediate=8)) and not same(spec, idle)
    assert same(XMCSpec(), XMCSpec(auxiliary_weight=0.2))
    assert not same(spec, dataclasses.replace(spec, seed=1))
    for each in (spec, idle, XMCSpec(sparse=SparseConfig(method="dense"))):
        assert each.canonical().canonical() == each.canonical()


def test_the_spec_costs_no_torch():
    code = "import sys, supervised.xmc.spec; print({'torch', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
