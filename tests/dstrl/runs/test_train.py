"""`run`: what it returns and writes, and that a seed fixes all of it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

import dstrl.runs.train
from dstrl.runs.build import build
from dstrl.runs.saved import load
from dstrl.runs.spec import RLSpec
from dstrl.runs.train import run
from sparse_core import tickets
from sparse_core.config import SparseConfig
from sparse_core.tickets import other_seed, rewind

RIGL = SparseConfig(method="rigl", sparsity=0.8, update_every=5)


def small(**values):
    hyper = {"n_steps": 32, "n_epochs": 2, "batch_size": 32} | values.pop("hyper", {})
    chosen = dict(
        steps=256, n_envs=2, net_arch=(16, 16), eval_episodes=2, eval_every=32, sparse=RIGL
    )
    return RLSpec(hyper=hyper, **chosen | values)


def quiet(done, numbers):
    pass


def test_the_result_says_what_happened(tmp_path):
    reports = []
    spec = small()
    result = run(spec, tmp_path, lambda done, numbers: reports.append((done, dict(numbers))))
    assert json.loads(json.dumps(result)) == result
    assert [x for x, _ in result["curve"]] == [32, 64, 96, 128, 160, 192, 224, 256]
    assert result["score"] == result["curve"][-1][1]
    assert [np.mean(r) for r in result["returns"]] == [y for _, y in result["curve"]]
    assert result["sparsity"]["requested"] == 0.8
    assert result["sparsity"]["achieved"] == pytest.approx(0.8, abs=0.001)
    active = sum(layer["active"] for layer in result["layers"])
    total = sum(layer["total"] for layer in result["layers"])
    assert total == 2 * (4 * 16 + 16 * 16) + 16 * 2 + 16
    assert 1 - active / total == result["sparsity"]["achieved"]
    assert result["steps"] == 256 and "curve_seconds" not in result
    assert result["optimizer_steps"] == {"policy": 16}
    assert result["updates"] == {"policy": 2} and result["still"] == []
    assert 8 <= result["random_score"] <= 100
    flops, dense = result["flops"], 2 * (4 * 16 + 16 * 16 + 16 * 2)
    assert flops["dense"] == dense and 0.1 * dense < flops["sparse"] < 0.5 * dense
    trained = flops["training"]
    assert trained["dense"] == 3 * 2 * total and trained["sparse"] < trained["dense"] / 2
    assert reports[-1] == (1.0, {"steps": 256.0, "return": result["score"]})
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    loaded = PPO.load(tmp_path / "model.zip", device="cpu")
    assert loaded.policy.sparse_engines["policy"].steps == 16


def test_the_requested_sparsity_is_that_of_all_networks_together(tmp_path):
    spec = small(actor_sparsity=0.5, critic_sparsity=0.75, net_arch=(8,))
    result = run(spec, tmp_path / "both", quiet)
    actor, critic = 4 * 8 + 8 * 2, 4 * 8 + 8
    mean = (0.5 * actor + 0.75 * critic) / (actor + critic)
    assert result["sparsity"] == {
        "requested": pytest.approx(mean),
        "achieved": pytest.approx(mean),
        "active": (actor // 2) + critic // 4,
        "total": actor + critic,
    }
    spec = small(actor_sparsity=0.5, critic_method="dense", net_arch=(8,))
    result = run(spec, tmp_path / "one", quiet)
    assert result["sparsity"] == {
        "requested": 0.5,
        "achieved": 0.5,
        "active": actor // 2,
        "total": actor,
    }
    assert list(result["updates"]) == ["actor"]


def test_a_topology_that_never_moved_is_named(tmp_path):
    sparse = SparseConfig(method="rigl", sparsity=0.8, update_every=12)
    result = run(small(sparse=sparse), tmp_path, quiet)
    assert result["updates"] == {"policy": 0}
    assert result["still"] == [
        "policy: no update of the topology in 16 optimizer steps "
        "(update_every=12, frozen from step 12 on)"
    ]
    spec = small(sparse=sparse, actor_method="static", critic_method="set")
    result = run(spec, tmp_path / "two", quiet)
    assert result["updates"] == {"critic": 0} and result["still"][0].startswith("critic: no update")
    static = SparseConfig(method="static", sparsity=0.8)
    result = run(small(sparse=static), tmp_path / "static", quiet)
    assert result["updates"] == {} and result["still"] == []


def test_random_actions_earn_what_they_earn_whatever_was_learnt(tmp_path):
    static = SparseConfig(method="static", sparsity=0.8)
    scores = [
        run(small(sparse=sparse, steps=steps), tmp_path / str(steps), quiet)["random_score"]
        for sparse, steps in ((RIGL, 64), (static, 32))
    ]
    assert scores[0] == scores[1]


def test_the_score_is_the_mean_of_the_last_tenth_of_evaluations(tmp_path):
    result = run(small(steps=640, eval_every=32), tmp_path, quiet)
    assert len(result["curve"]) == 20
    assert result["score"] == np.mean([y for _, y in result["curve"][-2:]])


def test_training_stops_when_its_time_is_used(tmp_path, monkeypatch):
    clock = itertools.count(step=0.01)
    monkeypatch.setattr(
        dstrl.runs.train,
        "time",
        SimpleNamespace(monotonic=time.monotonic, process_time=lambda: next(clock)),
    )
    reports = []
    spec = small(steps=10**6, eval_every=32, max_seconds=1.0)
    result = run(spec, tmp_path, lambda done, numbers: reports.append(done))
    steps = [x for x, _ in result["curve"]]
    assert steps[:3] == [32, 64, 96] and steps[-1] == result["steps"] < 1000
    seconds = [x for x, _ in result["curve_seconds"]]
    assert seconds == sorted(seconds) and seconds[-2] < 1.0 <= seconds[-1] < 1.1
    assert [y for _, y in result["curve_seconds"]] == [y for _, y in result["curve"]]
    assert reports[-1] == 1.0


def test_what_is_logged_is_written_if_a_tracker_follows_and_changes_nothing(tmp_path, monkeypatch):
    untracked = run(small(), tmp_path / "without", quiet)
    assert not (tmp_path / "without" / "progress.json").exists()
    monkeypatch.setenv("DST_TRACK", "tensorboard")
    result = run(small(), tmp_path / "with", quiet)
    text = (tmp_path / "with" / "progress.json").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"eval/mean_reward", "dst/policy/itop_rs", "train/loss"} <= set().union(*lines)
    logged = {
        line["time/total_timesteps"]: line["eval/mean_reward"]
        for line in lines
        if "eval/mean_reward" in line
    }
    assert logged == {x: pytest.approx(y) for x, y in result["curve"]}
    assert json.dumps(result) == json.dumps(untracked)
    with (tmp_path / "with" / "progress.json").open("a") as file:
        file.write('{"cut o')
    run(small(), tmp_path / "with", quiet)  # a further attempt
    again = (tmp_path / "with" / "progress.json").read_text()
    assert again.startswith(text) and len(again.splitlines()) == 2 * len(lines)


@pytest.mark.parametrize(
    "spec",
    [
        small(),
        RLSpec(
            algo="sac", env="Pendulum-v1", steps=130, eval_every=60, eval_episodes=1, sparse=RIGL
        ),
    ],
)
def test_the_same_seed_gives_the_same_bytes(spec, tmp_path):
    first = run(spec, tmp_path / "a", quiet)
    second = run(spec, tmp_path / "b", quiet)
    assert json.dumps(first) == json.dumps(second)


def test_evaluations_do_not_disturb_training(tmp_path):
    often = run(small(eval_every=16), tmp_path / "a", quiet)
    once = run(small(eval_every=256), tmp_path / "b", quiet)
    assert often["curve"][-1][0] == once["curve"][-1][0] == 256
    a = PPO.load(tmp_path / "a" / "model.zip", device="cpu").policy.state_dict()
    b = PPO.load(tmp_path / "b" / "model.zip", device="cpu").policy.state_dict()
    assert all(a[name].equal(b[name]) for name in a)


def test_distractors_and_normalisation(tmp_path):
    spec = small(noise=0.9, hyper={"normalize": True, "batch_size": 32})
    model = build(spec.resolve())
    assert model.observation_space.shape == (40,)
    result = run(spec, tmp_path, quiet)
    assert (tmp_path / "normalise.npz").exists()
    assert np.isfinite(result["score"])


@pytest.mark.parametrize("optimizer", ["sparse_core.optim:AdamW", "torch.optim:SGD"])
def test_an_optimizer_is_named(optimizer):
    spec = RLSpec(steps=100, optimizer=optimizer, hyper={"weight_decay": 0.1})
    found = build(spec.resolve()).policy.optimizer
    kind = type(found)
    assert kind.__name__ == optimizer.split(":")[1] and found.defaults["weight_decay"] == 0.1
    assert kind.__module__.startswith(optimizer.split(":")[0])


def test_hyper_parameters_reach_the_algorithm():
    model = build(
        small(hyper={"gamma": 0.5, "learning_rate": "lin_0.5", "activation": "relu"}).resolve()
    )
    assert model.gamma == 0.5
    assert (model.lr_schedule(1.0), model.lr_schedule(0.5), model.lr_schedule(0.0)) == (
        0.5,
        0.25,
        0,
    )
    assert type(model.policy.mlp_extractor.policy_net[1]).__name__ == "ReLU"


@pytest.mark.parametrize(
    ("algo", "env", "message"),
    [
        (
            "sac",
            "CartPole-v1",
            r"algo='sac': needs continuous actions, those of CartPole-v1 are Discrete\(2\)",
        ),
        ("td3", "CartPole-v1", "algo='td3': needs continuous actions"),
        ("dqn", "Pendulum-v1", "algo='dqn': needs discrete actions, those of Pendulum-v1 are Box"),
    ],
)
def test_an_environment_that_does_not_suit_is_refused_in_one_line(algo, env, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(RLSpec(algo=algo, env=env, steps=10), tmp_path, quiet)


def test_progress_is_reported_whenever_half_a_second_has_passed(tmp_path, monkeypatch):
    clock = itertools.count(step=0.3)
    monkeypatch.setattr(
        dstrl.runs.train,
        "time",
        SimpleNamespace(monotonic=lambda: next(clock), process_time=time.process_time),
    )
    reports = []
    run(small(eval_every=256), tmp_path, lambda done, numbers: reports.append(numbers["steps"]))
    assert reports[0] == 0
    assert max(np.diff(reports)) <= 2 * 2  # environments x steps until 0.5 s by that clock


@pytest.mark.parametrize(
    ("algo", "hyper", "batch"),
    [("ppo", {"batch_size": 32}, 32), ("a2c", {"n_steps": 6}, 12), ("dqn", {"batch_size": 16}, 16)],
)
def test_backends_are_chosen_for_the_batches_that_the_algorithm_trains_on(algo, hyper, batch):
    spec = RLSpec(algo=algo, env="CartPole-v1", n_envs=2, net_arch=(8,), hyper=hyper).resolve()
    engines = build(spec).policy.sparse_engines
    assert {engine.batch for engine in engines.values()} == {batch}


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_lottery_ticket_is_trained_in_rounds_from_one_beginning(algo, tmp_path):
    sparse = SparseConfig(
        method="ticket", sparsity=0.75, rounds=2, rewind_step=3, distribution="uniform"
    )
    fields = {"ppo": {}, "sac": {"env": "Pendulum-v1", "net_arch": (16, 16)}}[algo]
    hyper = {"ppo": {"n_steps": 16, "batch_size": 16}, "sac": {"learning_starts": 20}}[algo]
    spec = RLSpec(algo=algo, steps=64, sparse=sparse, hyper=hyper, eval_every=32, **fields)
    heard = []
    result = run(spec, tmp_path, lambda done, numbers: heard.append(done))
    assert heard == sorted(heard) and heard[-1] == 1
    each = result["rounds"]
    achieved = [one["sparsity"]["achieved"] for one in each]
    assert achieved == pytest.approx([0, 0.5, 0.75], abs=0.01)
    assert result["score"] == each[-1]["score"] and result["sparsity"] == each[-1]["sparsity"]
    assert len({len(one["curve"]) for one in each}) == 1
    played = build(spec.resolve())
    load(played, tmp_path)
    active = [layer["active"] for layer in result["layers"]]
    policy = played.policy
    assert [c.active for e in policy.sparse_engines.values() for c in e.layers()] == active


def test_the_control_to_a_ticket_trains_its_masks_with_new_weights(tmp_path, monkeypatch):
    begun = []

    def recorded(engine, legacy):
        rewind(engine, legacy)
        begun.append([(tensor.active(), tensor.values().clone()) for tensor in engine.tensors])

    monkeypatch.setattr(tickets, "rewind", recorded)
    for method in ("ticket", "ticket_reinit"):
        spec = RLSpec(
            algo="ppo", steps=32, net_arch=(8,), eval_every=32, eval_episodes=1,
            sparse=SparseConfig(method=method, sparsity=0.5, rounds=1),
            hyper={"n_steps": 16, "batch_size": 16},
        )  # fmt: skip
        run(spec, tmp_path, quiet)
    ticket, control = begun
    fresh = build(dataclasses.replace(spec.resolve(), seed=other_seed(spec.seed))).policy
    (engine,) = fresh.sparse_engines.values()
    for (mask, old), (same, new), tensor in zip(ticket, control, engine.tensors, strict=True):
        assert torch.equal(mask, same) and not torch.equal(old, new)
        assert torch.equal(new, tensor.values() * mask)


def test_a_ticket_of_the_actor_alone_leaves_the_critic_its_own_method(tmp_path):
    spec = RLSpec(
        algo="td3", env="Pendulum-v1", steps=40, net_arch=(16, 16), actor_method="ticket",
        sparse=SparseConfig(sparsity=0.5, rounds=1), hyper={"learning_starts": 20},
    )  # fmt: skip
    result = run(spec, tmp_path, quiet)
    assert len(result["rounds"]) == 2 and spec.rounds == 1
    assert RLSpec(algo="td3", env="Pendulum-v1").rounds == 0
