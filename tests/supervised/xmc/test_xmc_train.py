"""Whole runs on small planted data: what they return, that they repeat, how they stop."""

from __future__ import annotations

import json

import pytest
import torch

from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from supervised.data.parts import load_parts
from supervised.xmc.build import make_model
from supervised.xmc.spec import XMCSpec
from supervised.xmc.train import auxiliary_weight, run
from sweeps.store.validity import fault_of
from tests.supervised.planted import FEATURES, LABELS, write


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DST_DATA", str(tmp_path))
    write(tmp_path / "xmc" / "planted_data.txt", 120)
    return tmp_path


def spec(method="rigl", *, update_every=2, backend="masked", **options) -> XMCSpec:
    moving = {} if method in ("static", "dense") else {"update_every": update_every}
    sparse = SparseConfig(
        method=method, sparsity=0.8, distribution="uniform", backend=backend, **moving
    )
    options = {"dataset": "planted", "epochs": 4, "batch_size": 16, "lr": 0.1} | options
    return XMCSpec(sparse=sparse, **options)


def result_of(spec, tmp_path):
    reports = []
    result = run(spec, tmp_path, lambda done, numbers: reports.append((done, dict(numbers))))
    return result, reports


def test_a_result_holds_what_was_promised(tmp_path):
    result, reports = result_of(spec(intermediate=12, block=4, patience=None), tmp_path)
    assert json.loads(json.dumps(result)) == result and fault_of(result) is None
    assert result["samples"] == {"train": 81, "valid": 9, "test": 30}
    assert result["score"] == result["precision_at_1"]
    assert [epoch for epoch, _ in result["curve"]] == [1, 2, 3, 4]
    assert result["curve"][result["best_epoch"] - 1][1] == max(p for _, p in result["curve"])
    assert [layer["name"] for layer in result["layers"]] == [
        "lookup.weight",
        *(f"output.{i}.weight" for i in range(3)),
    ]
    assert [layer["active"] for layer in result["layers"]] == [12 * FEATURES, 10, 9, 5]  # 24 of 120
    assert result["sparsity"]["achieved"] == pytest.approx(0.8)
    # 6 steps an epoch: of 24 steps those before 0.75 * 24 = 18, every 2
    assert (result["updates"], result["still"]) == ({"network": 8}, [])
    assert (result["samples_without_labels"], result["unused_features"]) == (0, 0)
    for name in ("precision", "ndcg", "propensity_precision"):
        assert all(0 <= result[f"{name}_at_{k}"] <= 1 for k in (1, 3, 5))
    done = [done for done, _ in reports]
    assert done == sorted(done) and done[-1] == 1 and len(done) == 28
    assert reports[-1][1] == {"P@1": result["curve"][-1][1]}


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("method", ["dense", "static", "set", "rigl", "srigl"])
def test_methods_run_and_repeat(method, backend, tmp_path):
    chosen = spec(method, backend=backend, epochs=2, block=6)
    one, again = (result_of(chosen, tmp_path)[0] for _ in range(2))
    assert one == again
    other = result_of(spec(method, backend=backend, epochs=2, block=6, seed=1), tmp_path)[0]
    assert other["losses"] != one["losses"]
    assert one["losses"][-1] < one["losses"][0]
    assert one["sparsity"]["achieved"] == pytest.approx(0 if method == "dense" else 0.8)


@pytest.mark.parametrize("loss", ["squared_hinge", "bce"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_losses_and_optimizers_train(loss, optimizer, tmp_path):
    chosen = spec(loss=loss, optimizer=optimizer, normalise=False, intermediate=8, auxiliary=3)
    result, _ = result_of(chosen, tmp_path)
    assert result["losses"][-1] < result["losses"][0]


def test_training_stops_when_nothing_helps_any_more(tmp_path):
    slow = spec(epochs=9, patience=2, lr=1e-9)
    result, reports = result_of(slow, tmp_path)
    assert (len(result["curve"]), result["best_epoch"]) == (3, 1)
    assert reports[-1][0] == pytest.approx(3 / 9)


def test_the_best_epoch_is_what_counts(tmp_path):
    """Training that ends with it has the same result; a static mask knows no horizon."""
    whole, _ = result_of(spec("static", epochs=6, patience=None), tmp_path)
    short, _ = result_of(spec("static", epochs=whole["best_epoch"], patience=None), tmp_path)
    assert short["best_epoch"] == whole["best_epoch"]
    assert all(whole[key] == short[key] for key in whole if key not in ("curve", "losses"))


@pytest.mark.parametrize(("method", "first"), [("gmp", 3), ("granet", 3), ("one_shot", 1)])
def test_epochs_count_once_the_model_is_as_sparse_as_asked(method, first, tmp_path):
    """Of 4 epochs the third is over after 18 = 0.75 * 24 steps, when pruning ends."""
    result, _ = result_of(spec(method, patience=1), tmp_path)
    assert result["sparsity"]["achieved"] == pytest.approx(0.8)
    assert result["best_epoch"] >= first


def test_losses_and_optimizers_can_be_ones_own(tmp_path):
    plain, _ = result_of(spec(loss="bce", optimizer="adam"), tmp_path)
    names = {"loss": "supervised.xmc.losses:bce_", "optimizer": "torch.optim:Adam"}
    assert result_of(spec(**names), tmp_path)[0] == plain
    for field, reference, said in (
        ("loss", "math:sqrt", "is a builtin_function_or_method in 'math'"),
        ("loss", "supervised.xmc.losses:Bce", "has no 'Bce'; it must be a function (logits,"),
        ("optimizer", "torch.nn:ReLU", "is the class ReLU in 'torch.nn'"),
        (
            "optimizer",
            "unittest.mock:MagicMock",
            "gave a MagicMock, must be a function or class (parameters,",
        ),
    ):
        with pytest.raises(InputError) as caught:
            result_of(spec(**{field: reference}), tmp_path)
        assert str(caught.value).startswith(f"{field}={reference!r}: ") and said in str(
            caught.value
        )


def test_test_samples_decide_nothing(data):
    write(data / "xmc" / "two_train.txt", 90)
    results = []
    for seed in (1, 2):
        write(data / "xmc" / "two_test.txt", 30, seed=seed)
        results.append(result_of(spec(dataset="two"), data)[0])
    one, other = results
    assert one["score"] != other["score"] or one["ndcg_at_5"] != other["ndcg_at_5"]
    assert all(one[key] == other[key] for key in ("curve", "losses", "best_epoch", "updates"))


def test_no_label_is_ablated(data):
    train = load_parts("planted").train
    model, engine = make_model(spec("srigl", block=6), train)
    assert [item.role for item in engine.selected] == ["output", "output"]
    assert not any(tensor.may_ablate for tensor in engine.tensors)
    assert model(train.features.take(torch.arange(3))).shape == (3, LABELS)


def test_the_auxiliary_branch_fades():
    chosen = spec(intermediate=4, auxiliary=2)
    weights = [auxiliary_weight(chosen, done) for done in (0, 0.125, 0.25, 0.5, 0.9)]
    assert weights == pytest.approx([0.4, 0.4 * (1 + 0.5**0.5) / 2, 0.2, 0, 0])
    assert auxiliary_weight(spec(intermediate=4, auxiliary=2, auxiliary_until=0.0), 0) == 0


def test_the_auxiliary_branch_stays_dense(data):
    train = load_parts("planted").train
    _, engine = make_model(spec(intermediate=8, auxiliary=3), train)
    assert [tensor.name for tensor in engine.tensors] == ["output.0.weight"]


def test_few_labels_are_wrong_input(data):
    (data / "few_data.txt").write_text("4 1 4\n0 0:1\n1 0:1\n2 0:1\n3 0:1\n")
    with pytest.raises(InputError, match="dataset='few': has 4 labels; there must be 5, of which"):
        result_of(spec(dataset="few", valid_fraction=0.4), data)
