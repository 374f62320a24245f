"""Whole runs on small planted tastes, from a spec, the command line and a grid."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from supervised.rec.columns import megabytes, training_megabytes
from supervised.rec.spec import RecSpec
from supervised.rec.train import run
from sweeps.cli import main
from sweeps.language.grid import parse
from sweeps.store.validity import fault_of
from tests.supervised.rec.tastes import ITEMS, USERS, write


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DST_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tastes")
    return tmp_path


def spec(method="rigl", backend="condensed", **options) -> RecSpec:
    moving = {} if method in ("static", "dense") else {"update_every": 2}
    sparse = SparseConfig(
        method=method, sparsity=0.5, distribution="uniform", backend=backend, **moving
    )
    options = {"dataset": "tastes", "size": 8, "epochs": 4, "batch_size": 16, "lr": 0.1} | options
    return RecSpec(sparse=sparse, **options)


def result_of(spec, tmp_path):
    reports = []
    result = run(spec, tmp_path, lambda done, numbers: reports.append((done, dict(numbers))))
    return result, reports


def test_a_result_holds_what_was_promised(tmp_path):
    result, reports = result_of(spec(patience=None, k=5), tmp_path)
    assert json.loads(json.dumps(result)) == result and fault_of(result) is None
    assert (result["users"], result["items"], result["tested"]) == (USERS, ITEMS, USERS)
    pairs = result["pairs"]
    assert pairs["train"] + pairs["valid"] == 5 * USERS and pairs["test"] == USERS
    assert [epoch for epoch, _ in result["curve"]] == [1, 2, 3, 4]
    assert result["curve"][result["best_epoch"] - 1][1] == max(p for _, p in result["curve"])
    layer = result["layers"][0]
    assert 0.5 <= layer.pop("explored") <= 1 and 0 < layer.pop("live") <= USERS + ITEMS
    assert layer == {
        "name": "table.weight",
        "active": (USERS + ITEMS) * 4,
        "total": (USERS + ITEMS) * 8,
        "backend": "condensed",
        "neurons": USERS + ITEMS,
    }
    steps = -(-pairs["train"] // 16) * 4
    assert result["updates"] == {"network": (3 * steps // 4 - 1) // 2} and result["still"] == []
    # Values, 16-bit columns and where rows begin; with the gradient and both moments of Adam.
    active, rows = (USERS + ITEMS) * 4, USERS + ITEMS
    assert megabytes(result) * 1e6 == pytest.approx(active * 6 + (rows + 1) * 4)
    assert training_megabytes(result) * 1e6 == pytest.approx(active * 18 + (rows + 1) * 4)
    assert set(result["entries"]) == {"users", "items"}
    assert 0 < result["ndcg"] <= 1 and reports[-1][0] == 1.0 and "recall@5" in reports[-1][1]


@pytest.mark.parametrize("model", ["mf", "lightgcn", "neumf"])
def test_runs_repeat_to_the_bit(model, tmp_path):
    asked = spec(model=model, epochs=1, backend="masked", hidden=(4,), layers=2)
    one, other = (result_of(asked, tmp_path)[0] for _ in range(2))
    assert one == other
    assert result_of(replace(asked, seed=1), tmp_path)[0]["losses"] != one["losses"]


def test_dense_tables_have_no_entries_to_tell(tmp_path):
    result, _ = result_of(spec("dense", epochs=1, valid_users=3), tmp_path)
    assert result["entries"] == {} and result["megabytes"] == (USERS + ITEMS) * 8 * 4 / 1e6


def test_training_stops_when_nothing_helps(tmp_path):
    result, _ = result_of(spec("static", epochs=40, patience=1, lr=1e-9), tmp_path)
    assert len(result["curve"]) == 2 and result["best_epoch"] == 1


def test_k_above_the_items_is_refused(tmp_path):
    with pytest.raises(InputError, match="k=31: must be at most 30, the items"):
        result_of(spec(k=31), tmp_path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(model="als"), "model='als': must be one of mf, lightgcn, neumf, or package.module"),
        (dict(loss="hinge"), "loss='hinge': must be one of bpr, bce, or"),
        (dict(form="csv"), "form='csv': must be one of lists, pairs"),
        (dict(negatives=0), "negatives=0: must be an integer of at least 1"),
        (dict(penalty=-1.0), "penalty=-1.0: must be a number in"),
        (dict(start="nmf", model="neumf"), "start='nmf': is for models mf and lightgcn"),
        (dict(hidden=(4, 0)), "hidden=0: must be an integer of at least 1"),
        (dict(untrained="keep"), "untrained='keep': must be one of refuse, skip"),
        (dict(sparse=SparseConfig(method="ticket")), "sparse.method='ticket': trains in rounds"),
    ],
)
def test_what_a_spec_refuses(fields, said):
    with pytest.raises(InputError) as error:
        RecSpec(**fields)
    assert str(error.value).startswith(said)


def test_what_plays_no_part_makes_no_other_run():
    assert RecSpec(layers=1, hidden=(4,)).canonical() == RecSpec().canonical()
    assert RecSpec(model="lightgcn", layers=1).canonical().layers == 1
    dense = SparseConfig(method="dense", sparsity=0.0)
    assert RecSpec(sparse=dense, start="nmf").canonical().start == "random"


def test_presets_vary_in_a_grid():
    grid = parse(
        "name: recipes\nkind: rec\nbase: {dataset: gowalla, model: mf, sparse.sparsity: 0.8}\n"
        "grid: {preset: [dsl, sparserec]}\nseeds: 1\n"
    )
    assert [run.spec.start for run in grid.runs] == ["random", "nmf"]
    assert {run.spec.sparse.sparsity for run in grid.runs} == {0.8}


def test_presets_stand_beneath_what_is_given():
    fields = RecSpec.expand({"preset": "sparserec", "epochs": 2, "sparse": {"sparsity": 0.8}})
    assert fields["model"] == "lightgcn" and fields["epochs"] == 2 and fields["start"] == "nmf"
    assert fields["sparse"]["sparsity"] == 0.8 and fields["sparse"]["method"] == "rigl"
    with pytest.raises(InputError, match="preset='dls': must be one of dsl, sparserec"):
        RecSpec.expand({"preset": "dls"})


def test_the_command_line_says_what_came_out(capsys, tmp_path):
    words = "train rec --preset sparserec --dataset tastes --data . --size 8 --epochs 1 --out run"
    words += " --sparse.update-every 1 --sparse.gradient-steps 1"
    assert main(words.split()) == 0
    said = capsys.readouterr().out
    for heading in ("recall (%)", "nDCG (%)", "weights and indices (MB)", "sparsity"):
        assert heading in said
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["spec"]["model"] == "lightgcn" and result["spec"]["sparse"]["sparsity"] == 0.5


def test_wrong_data_is_one_line(capsys, tmp_path):
    (tmp_path / "tastes" / "train.txt").write_text("0 1\n0 2\n")
    assert main("train rec --dataset tastes --data .".split()) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("dst: ") and err.count("\n") == 1
    assert "train.txt': line 2: user 0 is in line 1 already" in err


def test_the_packaged_grid_compares_methods():
    grid = parse(
        "name: x\nkind: rec\nbase: {dataset: tastes, sparse.sparsity: 0.8}\n"
        "grid: {sparse.method: [dense, static, rigl], model: [mf, lightgcn]}\nseeds: 2"
    )
    assert len(grid.runs) == 12
