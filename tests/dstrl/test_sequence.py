"""Sequences of tasks from end to end: what is returned, that it repeats, what is refused."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from dstrl.sequence import SequenceSpec, run_sequence
from dstrl.spec import RLSpec
from dstrl.transfer import forgetting, forward_transfer, performance
from envs import sequence
from sparse_core.config import SparseConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "continual_rl.py"


def spec(seed=0, hyper=None, **fields):
    run = RLSpec(
        steps=256,
        n_envs=2,
        seed=seed,
        net_arch=(16, 16),
        eval_every=100,
        eval_episodes=2,
        sparse=SparseConfig(method="rigl", sparsity=0.8, dense=("input",), update_every=4),
        hyper={"n_steps": 64, "n_epochs": 4, "batch_size": 32} | (hyper or {}),
    )
    return SequenceSpec(run, **fields)


@pytest.fixture(scope="module")
def result():
    return run_sequence(spec())


def test_ended_tasks_earn_the_same_ever_after(result):
    matrix = result["matrix"]
    assert [len(row) for row in matrix] == [1, 2, 3]
    assert matrix[1][0] == matrix[2][0] == matrix[0][0] and matrix[2][1] == matrix[1][1]
    assert result["forgetting"] == forgetting(matrix) == 0.0
    assert result["performance"] == performance(matrix)
    assert all(0 < value <= 1 for row in matrix for value in row)


def test_curves_go_from_the_beginning_of_a_task_to_its_end(result):
    for curve in result["curves"] + result["baselines"]:
        assert [step for step, _ in curve] == [0, 100, 200, 256]


def test_transfer_is_measured_against_networks_that_learn_one_task(result):
    assert result["baselines"][0] == result["curves"][0] and result["transfers"][0] == 0.0
    expected = forward_transfer(result["curves"], result["baselines"])
    assert result["forward_transfer"] == expected


def test_what_three_tasks_hold_of_the_trunk(result):
    assert result["sparsity"]["policy"] == pytest.approx(0.8, abs=0.01)
    assert set(result["capacity"]) == {
        "policy.mlp_extractor.policy_net.2.weight",
        "policy.mlp_extractor.value_net.2.weight",
    }
    for held in result["capacity"].values():
        assert 0 < 256 * held < 256 and 256 * held % 3 == 0


def test_the_same_seed_gives_the_same_numbers(result):
    short = {"tasks": sequence("cartpole")[:2], "baselines": False}
    again = run_sequence(spec(**short))
    assert again["curves"] == result["curves"][:2] and again["matrix"] == result["matrix"][:2]
    assert again["forward_transfer"] is None and again["baselines"] is None


def test_the_example_prints_a_table(capsys, tmp_path):
    main = runpy.run_path(str(EXAMPLE))["main"]
    out = tmp_path / "results.json"
    main(["--steps", "256", "--isolation", "none", "--no-baselines", "--json", str(out)])
    printed = capsys.readouterr().out
    assert "| after task | on task 0 | on task 1 | on task 2 |" in printed
    assert "performance: " in printed and "forgetting: " in printed and out.exists()
    assert "forward_transfer" not in printed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spec(tasks=()), r"tasks=\(\): must be at least one task"),
        (lambda: spec(isolation="soft"), "isolation='soft': must be one of hard, none"),
        (lambda: spec(share="all"), "share='all': must be one of none, reuse"),
        (lambda: spec(hyper={"normalize": True}), "hyper.normalize=True: its statistics"),
        (lambda: SequenceSpec(RLSpec(algo="td3", env="Pendulum-v1")), "algo='td3': must be one of"),
        (lambda: SequenceSpec(RLSpec(noise=0.5)), "noise=0.5: tasks make their own"),
    ],
)
def test_wrong_input_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
