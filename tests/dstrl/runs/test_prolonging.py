"""Runs that go on from the end of a shorter one: they equal those of that length, or refuse."""

from __future__ import annotations

import dataclasses
import zipfile

import pytest

from dstrl.runs import train
from dstrl.runs.spec import RLSpec
from sparse_core.checkpoints import Checkpoints
from sparse_core.checks import InputError
from tests.dstrl.runs.test_resuming import PPO, SAC, SMALL

STEADY = {"method": "rigl_itop", "sparsity": 0.6, "update_every": 9, "decay": "constant"}
PPO_STEADY = PPO | {
    "hyper": PPO["hyper"] | {"learning_rate": 1e-3, "clip_range": 0.2},
    "sparse": PPO["sparse"] | {"horizon": 30},
}


def run(spec, folder, checkpoints=None):
    return train.run(spec, folder, lambda *told: None, checkpoints)


def weights(folder):
    with zipfile.ZipFile(folder / "model.zip") as file:
        return {name: file.read(name) for name in file.namelist() if name.endswith(".pth")}


@pytest.mark.parametrize(
    ("values", "steps"),
    [(PPO_STEADY, 300), (PPO_STEADY, 129), (SAC | {"sparse": STEADY}, 170)],
    ids=["ppo", "ppo, no rollout more", "sac"],
)
def test_a_run_that_is_prolonged_equals_one_of_that_length(tmp_path, values, steps):
    short = RLSpec.of(**SMALL | values).canonical()
    long = dataclasses.replace(short, steps=steps)
    assert short.part_of(long) == short.steps / steps
    run(short, tmp_path / "short", Checkpoints(tmp_path / "kept", 1e9, "short", keep=True))
    checkpoints = Checkpoints(tmp_path / "own", 1e9, "long")
    checkpoints.begin_with(tmp_path / "kept", "short")
    found = run(long, tmp_path / "prolonged", checkpoints)
    assert checkpoints.others
    assert found == run(long, tmp_path / "whole")
    assert weights(tmp_path / "prolonged") == weights(tmp_path / "whole")


LONG = {"env": "Pendulum-v1", "algo": "sac", "steps": 3000, "eval_every": 100}


@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({}, "sparse.stop_at", "=0.75: .* ends with its steps; with a sparse.horizon it can"),
        ({"sparse": {"method": "gmp"}}, "sparse.density_curve", "='cubic': a run of 1000 steps"),
        ({"sparse": {"method": "ticket", "rounds": 2}}, "sparse.rounds", "all its rounds are"),
        ({"sparse": {"method": "rigl_itop"}}, "sparse.decay", "='cosine'"),
        ({"critic_method": "static"}, "sparse.stop_at", "=0.75"),
        ({"hyper": {"learning_rate": "lin_0.01"}}, "hyper.learning_rate", "falls to 0 over all"),
        ({"max_seconds": 9.0}, "max_seconds", "=9.0: .* depends on the machine"),
        ({"algo": "dqn", "env": "CartPole-v1"}, "hyper.exploration_fraction", "a part of all"),
        ({"eval_every": None}, "eval_every", "=150: must be 50, as in the run of 1000 steps"),
    ],
)
def test_what_depends_on_the_steps_is_named(values, field, said):
    long = RLSpec.of(**LONG | values).canonical()
    short = RLSpec.of(**LONG | values | {"steps": 1000}).canonical()
    with pytest.raises(InputError, match=f"^{field}{said}|^{field}.*{said}") as refusal:
        short.part_of(long)
    assert refusal.value.field == field


@pytest.mark.parametrize("method", ["dense", "static", "edge_popup"])
def test_what_does_not_depend_on_them_goes_on(method):
    long = RLSpec.of(**LONG, sparse={"method": method}).canonical()
    assert dataclasses.replace(long, steps=1000).part_of(long) == 1 / 3


def test_runs_that_differ_in_more_or_are_no_longer_are_no_parts():
    spec = RLSpec.of(**LONG, sparse={"method": "static"}).canonical()
    assert spec.part_of(spec) is None
    assert spec.part_of(dataclasses.replace(spec, steps=100)) is None
    assert spec.part_of(dataclasses.replace(spec, steps=9000, seed=1)) is None
