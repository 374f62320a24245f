"""Sequences of tasks from end to end: what a run returns, that it repeats, what is refused."""

from __future__ import annotations

import dataclasses
import json
import runpy
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

from dstrl.tasks.metrics import forgetting, forward_transfer, performance
from dstrl.tasks.spec import CRLSpec
from dstrl.tasks.train import run
from envs import CartPoleTask
from sparse_core.config import SparseConfig

EXAMPLE = Path(__file__).parents[3] / "examples" / "continual_rl.py"
SPARSE = SparseConfig(method="rigl", sparsity=0.8, dense=("input",), update_every=4)
SPEC = CRLSpec(
    steps=256,
    n_envs=2,
    net_arch=(16, 16),
    eval_every=100,
    eval_episodes=2,
    sparse=SPARSE,
    hyper={"n_steps": 64, "n_epochs": 4, "batch_size": 32},
)
QUICK = dataclasses.replace(SPEC, steps=64, eval_every=64, alone=False)
HEARD: list[tuple[float, dict[str, float]]] = []


def silent(done, numbers):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sequence")


@pytest.fixture(scope="module")
def result(folder):
    HEARD.clear()
    return run(SPEC, folder, lambda done, numbers: HEARD.append((done, dict(numbers))))


def test_finished_tasks_earn_the_same_ever_after(result):
    matrix = result["matrix"]
    assert [len(row) for row in matrix] == [1, 2, 3]
    assert matrix[1][0] == matrix[2][0] == matrix[0][0] and matrix[2][1] == matrix[1][1]
    assert result["forgetting"] == forgetting(matrix) == 0.0
    assert result["score"] == performance(matrix)
    assert all(0 < value <= 1 for row in matrix for value in row)


def test_curves_go_from_the_beginning_of_a_task_to_its_end(result):
    for curve in result["curves"] + result["alone"]:
        assert [step for step, _ in curve] == [0, 100, 200, 256]
    assert [curve[-1][1] for curve in result["curves"]] == result["matrix"][-1]


def test_the_curve_is_the_mean_over_all_tasks_and_ends_at_the_score(result):
    assert [x for x, _ in result["curve"]] == [0, 100, 200, 256, 356, 456, 512, 612, 712, 768]
    first, second, third = result["curves"]
    after = result["matrix"]
    expected = [y for _, y in first]
    expected += [after[0][0] + y for _, y in second[1:]]
    expected += [sum(after[1]) + y for _, y in third[1:]]
    assert [y for _, y in result["curve"]] == pytest.approx([total / 3 for total in expected])
    assert result["curve"][-1][1] == result["score"]


def test_transfer_is_measured_against_networks_that_learn_one_task(result):
    assert result["alone"][0] == result["curves"][0] and result["transfers"][0] == 0.0
    expected = forward_transfer(result["curves"], result["alone"])
    assert result["forward_transfer"] == pytest.approx(expected)


def test_what_three_tasks_hold_of_the_trunk(result):
    assert result["sparsity"]["requested"] == 0.8
    assert result["sparsity"]["achieved"] == pytest.approx(0.8, abs=0.01)
    assert set(result["capacity"]) == {
        "policy.mlp_extractor.policy_net.2.weight",
        "policy.mlp_extractor.value_net.2.weight",
    }
    for held in result["capacity"].values():
        assert 0 < 256 * held < 256 and 256 * held % 3 == 0
    assert result["capacity_used"] == np.mean(list(result["capacity"].values()))
    active = {layer["name"]: layer["active"] for layer in result["layers"]}
    assert active["mlp_extractor.policy_net.0.weight"] == 4 * 16
    for name, held in result["capacity"].items():
        assert 3 * active[name.removeprefix("policy.")] == 256 * held


def test_progress_rises_from_nothing_to_all_of_five_trainings(result):
    done = [part for part, _ in HEARD]
    assert done[0] == 0 and done[-1] == 1 and all(a <= b for a, b in pairwise(done))
    assert {0.2, 0.4, 0.6, 0.8} <= {round(part, 9) for part in done}
    assert HEARD[-1][1]["steps"] == 5 * 256


def test_the_model_is_kept_with_all_its_tasks(result, folder):
    model = PPO.load(folder / "model.zip", device="cpu")
    assert model.policy.finished_tasks == [0, 1, 2] and model.policy.training_task is None
    json.dumps(result)


def test_the_same_seed_gives_the_same_numbers(result, tmp_path):
    again = run(dataclasses.replace(SPEC, alone=False), tmp_path, silent)
    assert again["curves"] == result["curves"] and again["matrix"] == result["matrix"]
    assert not {"forward_transfer", "alone", "transfers"} & set(again)


@pytest.mark.parametrize("method", ["rigl", "dense"])
def test_without_isolation_earlier_tasks_are_looked_at_again(method, tmp_path):
    sparse = dataclasses.replace(SPARSE, method=method)
    spec = dataclasses.replace(
        QUICK, sequence="pendulum", eval_every=32, isolation="none", sparse=sparse
    )
    result = run(spec, tmp_path, silent)
    assert result["matrix"][1][0] != result["matrix"][0][0]
    assert result["matrix"][2][0] != result["matrix"][1][0]
    assert result["curve"][-1][1] == result["score"]
    assert "capacity_used" not in result
    assert result["sparsity"]["achieved"] == pytest.approx(0.8 if method == "rigl" else 0, abs=0.01)


@pytest.mark.parametrize("algo", ["td3", "sac", "ddpg"])
def test_continuous_actions_are_learnt_on_pendulums(algo, tmp_path):
    hyper = {"learning_starts": 16, "batch_size": 8, "gradient_steps": 1, "train_freq": 4}
    spec = dataclasses.replace(QUICK, algo=algo, sequence="pendulum", hyper=hyper, n_envs=1)
    result = run(spec, tmp_path, silent)
    assert result["matrix"][2][:2] == result["matrix"][1]
    assert set(result["updates"]) == {"actor", "critic"} and min(result["updates"].values()) > 0


def test_an_ordinary_program_with_environments_of_its_own(capsys):
    main = runpy.run_path(str(EXAMPLE))["main"]
    main(["--steps", "256"])
    said = capsys.readouterr().out.splitlines()
    kept = [line.partition("return ")[2] for line in said if line.endswith("on task 0")]
    assert len(said) == 3 and len(kept) == 2 and kept[0] == kept[1]


class Loose:
    """A task that says it is better than possible, or cannot follow the one before."""

    tuned: ClassVar[str] = "CartPole-v1"

    def __init__(self, env="CartPole-v1", best=9.5):
        self.env, self.best = env, best

    def make(self, render_mode=None):
        return gym.make(self.env, render_mode=render_mode)

    def performance(self, mean_return):
        return mean_return / self.best


OWN = (CartPoleTask(gravity=5.0), CartPoleTask(gravity=15.0))
TOO_GOOD = (Loose(best=1.0),)
OTHER_SPACES = (Loose(), Loose("Acrobot-v1"))


def test_a_sequence_of_ones_own_is_named_by_where_it_is(tmp_path):
    result = run(dataclasses.replace(QUICK, sequence=f"{__name__}:OWN"), tmp_path, silent)
    assert len(result["matrix"]) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"sequence": f"{__name__}:TOO_GOOD"},
            r"performance of task 0=.*: must be a number in \[0, 1\]",
        ),
        (
            {"sequence": f"{__name__}:OTHER_SPACES"},
            "sequence=.*: task 1 has other observations or actions than task 0",
        ),
        (
            {"sparse": dataclasses.replace(SPARSE, sparsity=0.5)},
            "sequence='cartpole': of its 3 tasks only 2 have room beside each other",
        ),
        ({"algo": "td3", "hyper": {}}, "algo='td3': needs continuous actions"),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_one_line(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        run(dataclasses.replace(QUICK, **fields), tmp_path, silent)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_plasticity_is_measured_over_all_tasks(tmp_path):
    plain = run(dataclasses.replace(QUICK, alone=True), tmp_path, silent)
    told = run(dataclasses.replace(QUICK, alone=True, plasticity=True), tmp_path, silent)
    curves = told.pop("plasticity")
    assert told == plain
    assert set(curves) == {"dormant", "effective_rank", "weight_rms", "churn", "gradient_snr"}
    assert [x for x, _ in curves["weight_rms"]] == [128, 256, 384]
