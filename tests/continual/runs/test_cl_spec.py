"""`CLSpec`: what it accepts, what it says otherwise, and which runs are the same run."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import pytest

from continual.runs.spec import CLSpec
from sparse_core.config import SparseConfig
from sweeps.language.spec import run_id


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("benchmark", "mnist", "benchmark='mnist': must be one of split-digits"),
        ("optimizer", "lbfgs", "optimizer='lbfgs': must be one of sgd, adam, adamw"),
        ("isolation", "soft", "isolation='soft': must be one of hard, none"),
        ("share", "some", "share='some': must be one of none, reuse, forward, all"),
        ("selector", "best", "selector='best': must be one of max-confidence, entropy"),
        ("samples", 0, "samples=0: must be an integer of at least 1"),
        ("image_size", 0, "image_size=0: must be an integer of at least 1"),
        ("tasks", 0, "tasks=0: must be an integer of at least 1"),
        ("epochs", 1.5, "epochs=1.5: must be an integer"),
        ("batch_size", -1, "batch_size=-1: must be"),
        ("seed", -1, "seed=-1: must be"),
        ("lr", 0, "lr=0: must be a positive number"),
        ("lr", float("nan"), "lr=nan: must be a positive number"),
        ("hidden", (), "hidden=(): must name"),
        ("hidden", (10, 0), "hidden=0: must be an integer of at least 1"),
    ],
)
def test_wrong_values_are_named_in_one_line(field, value, message):
    with pytest.raises(ValueError) as caught:
        CLSpec(**{field: value})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_ten_classes_are_split_evenly():
    with pytest.raises(ValueError, match=r"tasks=3: must be one of 1, 2, 5"):
        CLSpec(benchmark="split-digits", tasks=3)
    assert CLSpec(benchmark="split-digits", tasks=5).tasks == 5
    assert CLSpec(benchmark="permuted-digits", tasks=10).tasks == 10
    assert CLSpec(benchmark="split-cifar100", tasks=10).tasks == 10


def test_dense_networks_cannot_be_isolated():
    dense = SparseConfig(method="dense", sparsity=0.0)
    assert CLSpec(sparse=dense).isolation_in_force == "none"
    assert CLSpec().isolation_in_force == "hard"
    with pytest.raises(ValueError, match="isolation='hard': method 'dense' needs all weights"):
        CLSpec(sparse=dense, isolation="hard")


def test_methods_that_start_dense_are_isolated_on_request():
    gmp = SparseConfig(method="gmp")
    assert CLSpec(sparse=gmp).isolation_in_force == "none"
    assert CLSpec(sparse=gmp, isolation="hard").isolation_in_force == "hard"


def test_backends_are_different_runs():
    """They agree to float tolerance, not to the bit."""
    specs = [
        CLSpec(sparse=dataclasses.replace(CLSpec().sparse, backend=backend))
        for backend in ("masked", "condensed", "auto")
    ]
    assert same(specs[2], CLSpec())
    assert not same(specs[0], specs[1]) and not same(specs[1], specs[2])


def test_masked_runs_keep_their_identity():
    """It is older than the default `auto` and the fields that have come since."""
    text = '{"kind":"cl","seed":3,"spec":{"epochs":2,"seed":3}}'
    spec = CLSpec(sparse=SparseConfig(update_every=10), channels=(9,), epochs=2, seed=3)
    assert run_id("cl", spec) == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert run_id("cl", CLSpec(epochs=2, seed=3)) != run_id("cl", spec)


def same(one: CLSpec, other: CLSpec) -> bool:
    return one.canonical() == other.canonical()


def test_canonical_specs_of_the_same_run_are_equal():
    rigl = CLSpec().sparse
    assert same(CLSpec(), CLSpec(isolation="hard"))
    assert same(CLSpec(), CLSpec(sparse=dataclasses.replace(rigl, seed=3, horizon=7)))
    assert same(CLSpec(isolation="none"), CLSpec(isolation="none", share="reuse"))
    dense = SparseConfig(method="dense", sparsity=0.0)
    assert same(CLSpec(sparse=dense), CLSpec(sparse=SparseConfig(method="dense"), isolation="none"))
    assert not same(CLSpec(), CLSpec(isolation="none"))
    assert not same(CLSpec(), CLSpec(share="reuse"))
    assert not same(CLSpec(), CLSpec(seed=1))


def test_canonical_is_idempotent():
    for spec in (CLSpec(), CLSpec(sparse=SparseConfig(method="dense"), share="reuse")):
        assert spec.canonical().canonical() == spec.canonical()


def test_the_spec_costs_no_torch():
    code = "import sys, continual.runs.spec; print({'torch', 'avalanche'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
