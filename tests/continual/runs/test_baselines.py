"""Dense baselines: which runs they are, how large, and what they equal where there is one task."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from continual.runs.baselines import BASELINES
from continual.runs.batches import Recalling, TensorBatches, make_batches
from continual.runs.benchmarks import as_avalanche, load_tasks
from continual.runs.build import make_model
from continual.runs.columns import samples_kept
from continual.runs.data import TaskData
from continual.runs.independent import Independent
from continual.runs.protecting import protection
from continual.runs.sizes import resized
from continual.runs.spec import CLSpec
from continual.runs.train import run
from sparse_core.columns import trained_least, trained_mean
from sparse_core.config import SparseConfig
from sweeps.language.axes import Axes
from sweeps.language.grid import make_run
from sweeps.language.kinds import KINDS
from tests.continual.tiny_tasks import make_strategy, make_tasks

SPARSE = SparseConfig(method="static", sparsity=0.95)
DIGITS = load_tasks("permuted-digits", 1)[0]


def same(one, other):
    return one.canonical() == other.canonical()


# Which runs they are ------------------------------------------------------------------------------


def test_fine_tuning_is_the_dense_run():
    dense = CLSpec(sparse=SparseConfig(method="dense"))
    assert same(CLSpec(baseline="finetune"), dense)
    assert dense.canonical().baseline is None


@pytest.mark.parametrize("name", BASELINES)
def test_method_strategy_isolation_and_sharing_play_no_part(name):
    plain = CLSpec(baseline=name)
    others = [
        CLSpec(baseline=name, share="reuse"),
        CLSpec(baseline=name, isolation="hard", sparse=SparseConfig(method="srigl")),
        CLSpec(baseline=name, strategy="spacenet", sparse=SparseConfig(distribution="uniform")),
    ]
    assert all(same(plain, other) for other in others)
    assert plain.canonical() == plain.canonical().canonical()
    assert plain.isolation_in_force == "none" and plain.settings[0].method == "dense"


@pytest.mark.parametrize("name", BASELINES)
def test_the_sparsity_says_how_large_small_ones_are(name):
    one, other = (CLSpec(baseline=name, sparse=SparseConfig(sparsity=s)) for s in (0.9, 0.95))
    assert same(one, other) == (name not in ("tiny", "independent"))


def test_settings_play_a_part_in_their_own_baseline_only():
    for name in BASELINES:
        plain = CLSpec(baseline=name)
        more = dataclasses.replace(plain, replay_samples=7)
        stiffer = dataclasses.replace(plain, ewc_lambda=7.0)
        assert same(plain, more) == (name != "replay")
        assert same(plain, stiffer) == (name != "ewc")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"baseline": "gem"}, "baseline='gem': must be one of finetune, replay, ewc, joint"),
        ({"replay_samples": 0}, "replay_samples=0: must be an integer of at least 1"),
        ({"ewc_lambda": 0.0}, "ewc_lambda=0.0: must be a positive number"),
        (
            {"baseline": "tiny", "network": "my.module:Net"},
            "baseline='tiny': makes the network smaller, and 'my.module:Net' has no widths; needs "
            "network mlp or cnn",
        ),
    ],
)
def test_wrong_values_are_named_in_one_line(values, message):
    with pytest.raises(ValueError) as caught:
        CLSpec(**values)
    assert str(caught.value).startswith(message)


# How large they are -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dense", "widths", "weights"),
    [
        # 5 % of 64 * 200 + 200 * 200 + 200 * 10 = 54,800; with (27, 28) it would be 2,764
        ("tiny", (), (27, 27), 64 * 27 + 27 * 27 + 27 * 10),
        ("independent", (), (27, 27), 64 * 27 + 27 * 27 + 27 * 10),
        # 5 % of 52,800, and a head of 2,000; with (41, 40) it would be 4,664
        ("independent", ("output",), (40, 41), 64 * 40 + 40 * 41 + 41 * 10),
        # a fifth of 52,800, and a head of 2,000; with (82, 81) it would be 12,700
        ("independent_total", (), (81, 81), 64 * 81 + 81 * 81 + 81 * 10),
        ("replay", (), (200, 200), 54_800),
    ],
)
def test_widths_by_hand(name, dense, widths, weights):
    spec = CLSpec(baseline=name, sparse=dataclasses.replace(SPARSE, dense=dense))
    small = resized(spec, DIGITS)
    assert small.hidden == widths
    network = make_model(spec, DIGITS)
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    tasks = spec.tasks if BASELINES[name].apart else 1
    assert sum(layer.weight.numel() for layer in layers) == tasks * weights


def test_convolutions_shrink_like_layers():
    images = TaskData(torch.zeros(4, 64), torch.arange(4), torch.zeros(4, 64), torch.arange(4))
    spec = CLSpec(network="cnn", channels=(8, 16), hidden=(32,), baseline="tiny", sparse=SPARSE)
    small = resized(spec, images)
    # 9 * 8 + 9 * 64 + 9 * 128 + 9 * 256 + 64 * 32 + 32 * 4 = 6,280, of which 314 are active;
    # 7 / 32 of the widths: 9 + 9 + 27 + 81 + 12 * 7 + 7 * 4 = 238, with a quarter it would be 430;
    # four more hidden neurons: 302
    assert (small.channels, small.hidden) == ((1, 3), (11,))


def test_a_budget_that_no_network_meets_is_refused():
    spec = CLSpec(baseline="independent", sparse=SparseConfig(method="static", sparsity=0.999))
    with pytest.raises(ValueError, match=r"hidden={'hidden': \[200, 200\]}: no dense network of"):
        make_model(spec, DIGITS)


# What they do -------------------------------------------------------------------------------------


def logits(model, tasks, matrix):
    """Of the first task, added up: equal to the bit if weights are."""
    return {"sum": float(model(tasks[0].test_x, 0).detach().double().abs().sum())}


def result_of(tmp_path, **values):
    chosen = {"epochs": 1, "samples": 128, "tasks": 2, "hidden": (32,), "sparse": SPARSE} | values
    metrics = ("tests.continual.runs.test_baselines:logits",)
    return run(CLSpec(**chosen, metrics=metrics), tmp_path, lambda *told: None)


def test_with_one_task_all_are_the_dense_network_of_their_size(tmp_path):
    dense = result_of(tmp_path, tasks=1, baseline="finetune")
    for name in ("replay", "ewc", "joint", "independent_total"):
        other = result_of(tmp_path, tasks=1, baseline=name)
        assert other["measured"] == dense["measured"], name
    small = resized(CLSpec(hidden=(32,), baseline="tiny", sparse=SPARSE), DIGITS).hidden
    dense = result_of(tmp_path, tasks=1, baseline="finetune", hidden=small)
    for name in ("tiny", "independent"):
        assert result_of(tmp_path, tasks=1, baseline=name)["measured"] == dense["measured"]


def test_independent_networks_are_trained_in_their_own_task_only(tmp_path):
    one = result_of(tmp_path, tasks=1, baseline="independent")
    two = result_of(tmp_path, tasks=2, baseline="independent")
    assert two["measured"] == one["measured"]
    assert two["forgetting"] == two["backward_transfer"] == 0
    assert two["trained_weights"] == one["trained_weights"] * 2
    assert two["flops"]["tasks"] == [2 * count for count in two["trained_weights"]]


def test_a_mixed_batch_gets_each_sample_s_network():
    networks = iter([nn.Linear(2, 3) for _ in range(2)])
    model = Independent(lambda: next(networks), 2, SparseConfig(method="dense", sparsity=0.0))
    x, labels = torch.randn(5, 2), torch.tensor([1, 0, 1, 1, 0])
    each = [model(x[i : i + 1], int(label)) for i, label in enumerate(labels)]
    assert torch.allclose(model(x, labels), torch.cat(each))


def test_all_tasks_at_once_are_measured_at_the_end(tmp_path):
    result = result_of(tmp_path, baseline="joint", tasks=3)
    last = result["accuracy_matrix"][-1]
    assert result["accuracy_matrix"] == [last[:1], last[:2], last]
    assert result["curve"] == [[3, result["score"]]]
    assert "forgetting" not in result and "backward_transfer" not in result
    assert result["samples_kept"] == 2 * 128
    assert result["task_labels"] == "training and test"


def test_columns_of_reports():
    assert trained_mean({"trained_weights": [4, 2]}) == 3 and trained_least({}) is None
    assert trained_least({"trained_weights": [4, 2]}) == 2 and trained_mean({}) is None
    assert samples_kept({"samples_kept": 0}) is None and samples_kept({"samples_kept": 5}) == 5


# Their batches ------------------------------------------------------------------------------------


def test_batches_of_all_tasks_may_be_smaller_than_the_tasks_are_many(tmp_path):
    values = {"baseline": "joint", "tasks": 3, "batch_size": 2, "epochs": 1, "samples": 20}
    assert result_of(tmp_path, **values)["samples_kept"] > 0


def test_joint_batches_hold_each_sample_of_each_task_once():
    tasks = make_tasks(3, samples=10)
    batches = TensorBatches(tasks, 8, joint=True)
    batches.labels = [0, 1, 2]
    assert len(batches) == 4
    x, y, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    for label, task in enumerate(tasks):
        mine = labels == label
        assert sorted(x[mine].tolist()) == sorted(task.train_x.tolist())
        assert mine.sum() == 10 and sorted(y[mine].tolist()) == sorted(task.train_y.tolist())


def test_each_batch_has_as_many_memories_as_samples_of_the_task():
    tasks = make_tasks(3, samples=10)
    batches = Recalling(tasks, 4, None)
    batches.labels = [2]
    x, y = tasks[0].train_x[:3], tasks[0].train_y[:3]
    batches.memories = (x, y, torch.zeros_like(y))
    found = list(batches)
    assert [len(labels) for _, _, labels in found] == [8, 8, 6]
    recalled = torch.cat([classes[labels == 0] for _, classes, labels in found])
    assert len(recalled) == 12  # each of the three memories four times
    assert sorted(recalled.tolist()) == sorted(y.tolist() * 4)


def test_replay_keeps_as_many_samples_of_each_earlier_task():
    tasks = make_tasks(3, samples=30)
    spec = CLSpec(baseline="replay", replay_samples=24)
    plugins = protection(spec)
    loader = make_batches(tasks, 16, plugins, joint=False)
    strategy = make_strategy(
        Independent(lambda: nn.Linear(12, 3), 3, spec.settings[0]),
        epochs=1,
        plugins=[*plugins, loader],
    )
    kept = []
    for experience in as_avalanche(tasks).train_stream:
        strategy.train(experience, eval_streams=[])
        kept.append([] if loader.memories is None else loader.memories[2].bincount().tolist())
    assert kept == [[], [24], [12, 12]]


def test_elastic_weights_are_held_by_the_penalty_that_was_asked_for():
    (plugin,) = protection(CLSpec(baseline="ewc", ewc_lambda=3.0))
    assert (plugin.ewc_lambda, plugin.mode) == (3.0, "separate")


def test_reports_call_them_by_their_names():
    runs = [
        make_run("cl", KINDS["cl"], spec)
        for spec in (
            CLSpec(baseline="finetune"),
            CLSpec(baseline="replay"),
            CLSpec(baseline="independent"),
            CLSpec(baseline="independent", sparse=SparseConfig(sparsity=0.95)),
            CLSpec(sparse=SPARSE),
        )
    ]
    axes = Axes(runs)
    assert [axes.label(run) for run in runs] == [
        "dense",
        "replay",
        "independent sparsity=0.9",
        "independent sparsity=0.95",
        "static sparsity=0.95",
    ]
