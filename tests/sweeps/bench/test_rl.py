"""`dst bench rl`: who takes part, what is counted, what is written."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from sweeps.bench import rl, sbx, sbx_worker
from sweeps.bench.agents import CONTESTANTS, learner
from sweeps.bench.learning import EPISODE, FreeEnv, Times
from sweeps.bench.rl_cases import Case
from sweeps.bench.rl_records import line, records

pytestmark = pytest.mark.filterwarnings("ignore:Constant fan-in at sparsity=0.5")

TINY = Case("sac", (8, 8), 0.5)
TIMES = {
    "dense": Times([0.004, 0.004, 0.004, 0.004], [0.003]),
    "condensed-4": Times([0.001, 0.001, 0.001, 0.005], [0.001]),
    "sbx": Times([0.003, 0.003, 0.003, 0.003], [0.002]),
}


def test_the_environment_is_of_halfcheetahs_sizes_and_ends_by_itself():
    env = FreeEnv()
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation) and env.action_space.shape == (6,)
    ends = [env.step(None)[3] for _ in range(EPISODE)]
    assert ends.index(True) == len(ends) - 1
    assert (env.reset()[0] == observation).all()


@pytest.mark.parametrize(("algo", "steps"), [("sac", 7), ("td3", 7)])
def test_each_step_of_the_environment_has_its_gradient_step(algo, steps):
    made = learner(Case(algo, (8, 8), 0.5), CONTESTANTS["condensed-4"], "srigl")
    for _ in range(2):
        times = made.block(steps)
        assert len(times.steps) == len(times.trains) == steps
        assert 0 < sum(times.trains) < sum(times.steps)
    assert made.model.num_timesteps == made.model._n_updates == 2 * steps


def test_a_block_of_ppo_is_a_rollout(monkeypatch):
    monkeypatch.setattr(
        "sweeps.bench.agents.arguments", lambda algo: dict(n_steps=16, batch_size=8, device="cpu")
    )
    made = learner(Case("ppo", (8, 8), 0.5), CONTESTANTS["masked"], "srigl")
    times = made.block(5)
    assert len(times.steps) == len(times.trains) == 1
    assert made.model.num_timesteps == 16
    assert times.steps[0] > times.trains[0] / 16


def test_turns_are_taken_one_after_the_other_and_sparse_ones_meet_an_update_before():
    turns = []

    class Counting:
        def __init__(self, name):
            self.name = name

        def block(self, steps):
            turns.append((self.name, steps))
            return Times([float(len(turns))], [0.5])

    ready = {"a": Counting("a"), "b": Counting("b")}
    times = rl.in_turns(ready, 2, {"b"})
    assert turns == [("a", 20), ("b", 100), ("a", 20), ("b", 20), ("a", 20), ("b", 20)]
    assert times == {"a": Times([3.0, 5.0], [0.5, 0.5]), "b": Times([4.0, 6.0], [0.5, 0.5])}


def test_a_mean_has_the_update_that_a_median_leaves_out():
    dense, sparse, other = records(TINY, "learn", TIMES)
    assert (dense.median_ms, dense.mean_ms, dense.method, dense.sparsity) == (4, 4, "dense", 0)
    assert (sparse.median_ms, sparse.ratio_to_dense) == (1.0, 4.0)
    assert (sparse.mean_ms, sparse.mean_ratio_to_dense, sparse.mean_ratio_to_sbx) == (2, 2, 1.5)
    assert (sparse.backend, sparse.group, sparse.library) == ("condensed", 4, "sb3")
    assert (other.library, other.backend, other.mean_ratio_to_sbx) == ("sbx", "dense", 1.0)
    alone = {"dense": TIMES["dense"]}
    assert records(TINY, "train", alone)[0].mean_ratio_to_sbx is None
    assert line(sparse).endswith("median    1.00 ms x4.00, mean    2.00 ms x2.00, times SBX x1.50")


def test_cases_are_chosen_by_algorithm_or_by_name(monkeypatch):
    assert TINY.name == "sac-8-50" and {case.name for case in rl.CASES} < {*rl.NAMES}
    monkeypatch.setattr(rl, "measure", lambda case, *_: [case.name])
    given = rl.options().parse_args(["--cases", "td3", "sac-1024-95"])
    assert list(rl.measured(given)) == [["sac-1024-95"], ["td3-256-90"], ["td3-1024-95"]]


def test_a_case_of_simba_has_its_networks_in_every_contestant(monkeypatch):
    case = Case("sac", (8, 8), 0.5, "simba")
    assert case.name == "sac-simba-50"
    for name in ("dense", "masked", "compiled-4"):
        made = learner(case, CONTESTANTS[name], "srigl")
        made.block(3)
        assert made.model.critic.qf0[1].inner[1].out_features == 32
        assert getattr(made.model, "uncompiled", None) is None


def test_every_contestant_is_a_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rl, "CASES", (TINY,))
    monkeypatch.setattr(rl, "INTERVAL", 2)
    monkeypatch.setattr(rl, "STEPS", 2)
    words = ["--quick", "--cases", "sac", "--contestants", "masked", "condensed-4", "sbx"]
    assert rl.main([*words, "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert [r["measure"] for r in found] == ["learn"] * 3 + ["train"] * 3
    assert [(r["backend"], r["group"], r["sparsity"], r["method"]) for r in found[3:]] == [
        ("dense", 1, 0.0, "dense"),
        ("masked", 1, 0.5, "srigl"),
        ("condensed", 4, 0.5, "srigl"),
    ]
    assert found[0] == found[0] | {"algo": "sac", "net_arch": [8, 8], "ratio_to_dense": 1.0}
    out = capsys.readouterr().out
    assert f"sbx: {sbx.INSTALL}\n" in out and out.count("sac       learn       8x8") == 3


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A module of that name with Stable-Baselines3's algorithms, which prints on import."""
    (tmp_path / "sbx.py").write_text("print('hello')\nfrom stable_baselines3 import SAC\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(rl.__file__).parents[2]}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sbx", raising=False)
    yield
    sys.modules.pop("sbx", None)


def test_the_other_process_answers_line_by_line(stand_in, monkeypatch, capfd):
    asked = {"algo": "sac", "net_arch": [8, 8], "clock": "wall"}
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{json.dumps(asked)}\n3\n"))
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    sbx_worker.main()
    hello, first, second = capfd.readouterr().out.splitlines()
    assert (hello, json.loads(first)) == ("hello", {"installed": True})
    assert [len(json.loads(second)[key]) for key in ("steps", "trains")] == [3, 3]


@pytest.mark.slow
def test_another_environments_sbx_learns_in_a_process_of_its_own(stand_in):
    other = sbx.SbxLearner("sac", (8, 8), "wall", 1, None)
    times = other.block(3)
    assert len(times.steps) == len(times.trains) == 3 and min(times.trains) > 0
    other.close()


def test_what_the_other_process_says_is_read(tmp_path):
    python = tmp_path / "python"
    times = {"steps": [0.5, 0.25], "trains": [0.125]}
    python.write_text(
        "#!/bin/sh\nread asked\necho '{\"installed\": true}'\n"
        f"read steps\ntest $steps = 2 && echo '{json.dumps(times)}'\nread more\nexit 3\n"
    )
    python.chmod(0o700)
    other = sbx.SbxLearner("sac", (8, 8), "wall", 1, str(python))
    assert other.block(2) == Times(**times)
    with pytest.raises(RuntimeError, match="the process of SBX ended with 3"):
        other.block(2)
    other.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds: '0': must be an integer of at least 1"),
        (["--json", "/no/such/x.json"], "'/no/such/x.json': must be a file in a folder"),
        (["--cases", "a2c"], "argument --cases: invalid choice: 'a2c'"),
        (["--contestants", "jax"], "argument --contestants: invalid choice: 'jax'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_timed(arguments, message, capsys):
    with pytest.raises(SystemExit):
        rl.main(arguments)
    assert message in capsys.readouterr().err


def test_a_python_that_is_none_is_one_line():
    with pytest.raises(ValueError, match="--peer-python /no/python: No such file or directory"):
        sbx.SbxLearner("sac", (8, 8), "wall", 1, "/no/python")
