import dataclasses
import subprocess
import sys

import pytest

from sparse_core.config import SparseConfig
from sparse_core.registry import METHODS
from sparse_core.structure_names import parse_pattern

BAD = [
    (
        dict(method="sett"),
        "method='sett': must be one of dense, static, ticket, ticket_reinit, set",
    ),
    (dict(sparsity=1.0), "sparsity=1.0: must be a number in [0, 1)"),
    (dict(sparsity=-0.1), "sparsity=-0.1: must be a number in [0, 1)"),
    (dict(sparsity=float("nan")), "sparsity=nan: must be a number in [0, 1)"),
    (dict(sparsity=True), "sparsity=True: must be a number in [0, 1)"),
    (dict(sparsity="0.9"), "sparsity='0.9': must be a number in [0, 1)"),
    (dict(distribution="erdos"), "distribution='erdos': must be one of erk, er, uniform"),
    (dict(method="set", growth="gradient"), "growth='gradient': method 'set' can use random, unf"),
    (dict(method="static", growth="random"), "growth='random': method 'static' grows nothing"),
    (dict(growth="hebbian"), "growth='hebbian': must be one of random, unfired, gradient"),
    (
        dict(method=["set"]),
        "method=['set']: must be one of dense, static, ticket, ticket_reinit, set",
    ),
    (dict(growth={}), "growth={}: must be one of random, unfired, gradient"),
    (dict(drop=["signed"]), "drop=['signed']: must be one of magnitude, signed"),
    (dict(distribution=None), "distribution=None: must be one of erk, er, uniform"),
    (dict(drop="random"), "drop='random': must be one of magnitude, signed"),
    (dict(update_every=0), "update_every=0: must be an integer of at least 1"),
    (dict(update_every=2.5), "update_every=2.5: must be an integer of at least 1"),
    (dict(drop_fraction=1.5), "drop_fraction=1.5: must be a number in [0, 1]"),
    (dict(horizon=0), "horizon=0: must be an integer of at least 1"),
    (dict(structure="4:2", sparsity=0.5), "structure='4:2': N must not exceed M"),
    (dict(structure="2:4"), "sparsity=0.9: structure 2:4 means 0.5"),
    (dict(structure=["2:4"]), "structure=['2:4']: must be one of unstructured, constant_fan_in"),
    (dict(structure="N:M"), "structure='N:M': must be one of unstructured, constant_fan_in"),
    (dict(structure="triangular"), "structure='triangular': must be one of unstructured"),
    (dict(method="srigl", structure="unstructured"), "method 'srigl' needs constant_fan_in"),
    (dict(group=4), "group=4: needs structure constant_fan_in"),
    (
        dict(scope="global"),
        "scope='global': method 'rigl' cannot, these can: static, ticket, ticket_reinit, gse",
    ),
    (dict(ablation_threshold=0), "ablation_threshold=0: must be a positive number"),
    (dict(never_ablate=("heads",)), "never_ablate='heads': must be one of input, hidden"),
    (dict(layer_sparsity={"fc": 1.0}), "layer_sparsity['fc']=1.0: must be a number in [0, 1)"),
    (dict(gradient_steps=200), "gradient_steps=200: must be at most update_every=100"),
    (dict(method="sr_ste"), "structure='unstructured': method 'sr_ste' needs N:M"),
    (dict(dense=3), "dense=3: must be a list of roles or name patterns"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_wrong_values_name_field_value_and_what_is_allowed(fields, message):
    with pytest.raises(ValueError) as caught:
        SparseConfig(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_equal_experiments_have_equal_canonical_forms():
    def canonical(**fields):
        return SparseConfig(**fields).canonical()

    dense = canonical(method="dense", sparsity=0.0)
    assert canonical(method="dense", sparsity=0.9, distribution="uniform", seed=3) == dense
    assert canonical(method="set", growth="random") == canonical(method="set")
    assert canonical(method="static", update_every=7) == canonical(method="static")
    assert canonical(method="rigl", ablation=False) == canonical(method="rigl")
    assert canonical(method="srigl", structure="constant_fan_in") == canonical(method="srigl")


def test_different_experiments_keep_different_canonical_forms():
    forms = [
        SparseConfig(method="static", seed=1),
        SparseConfig(method="static", distribution="uniform"),
        SparseConfig(method="set", growth="unfired"),
        SparseConfig(method="srigl", ablation=False),
        SparseConfig(method="srigl", ablation_threshold=0.5),
        SparseConfig(method="srigl", group=4),
        SparseConfig(method="rigl", horizon=10),
    ]
    assert len({form.canonical() for form in forms}) == len(forms)


@pytest.mark.parametrize("method", METHODS)
def test_canonical_is_idempotent_and_valid(method):
    extra = dict(structure="2:4", sparsity=0.5) if METHODS[method].structures == ("N:M",) else {}
    config = SparseConfig(method=method, **extra)
    assert config.canonical().canonical() == config.canonical()
    assert config.canonical().method == method


def test_the_configuration_is_frozen_and_hashable():
    config = SparseConfig(dense=["input"], layer_sparsity={"fc": 0.5})
    assert hash(config) == hash(SparseConfig(dense=("input",), layer_sparsity=(("fc", 0.5),)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.sparsity = 0.5


@pytest.mark.parametrize(
    ("text", "pattern"),
    [("2:4", (":", 2, 4)), ("16x1", ("x", 16, 1)), ("0:4", None), ("neurons", None), ("2:", None)],
)
def test_patterns(text, pattern):
    assert parse_pattern(text) == pattern


def test_a_configuration_costs_no_torch():
    code = "import sys, sparse_core.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
