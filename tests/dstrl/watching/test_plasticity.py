"""Curves of plasticity: each number is that of the metric, churn is counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.callbacks import CallbackList, ConvertCallback
from torch import nn

from dstrl.policies import names
from dstrl.runs.spec import RLSpec
from dstrl.runs.train import run
from dstrl.watching.metrics import activity, representation_rank
from dstrl.watching.plasticity import Plasticity
from sparse_core import SparseConfig, sparsify
from sparse_core.metrics.norms import weight_rms
from sparse_core.weights.delta import Delta

NAMES = {"dormant", "effective_rank", "weight_rms", "churn", "gradient_snr"}


def model(algorithm=PPO, env="CartPole-v1", **sparse):
    names.register()
    settings = {"n_steps": 32, "batch_size": 32} if algorithm is PPO else {"learning_starts": 10}
    made = algorithm(
        "SparseMlpPolicy",
        env,
        seed=0,
        device="cpu",
        policy_kwargs={"sparse": {"method": "set", "sparsity": 0.5, **sparse}, "net_arch": [16]},
        **settings,
    )
    return made.learn(40)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_the_size_of_weights_is_over_the_active_ones(backend):
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3))
    config = SparseConfig(method="static", sparsity=0.5, dense=("output",), backend=backend)
    engine = sparsify(net, config)
    (first,) = engine.tensors
    with torch.no_grad():
        first.weight.fill_(2.0)
        net[2].weight.fill_(1.0)
    active = first.count()
    expected = math.sqrt((4.0 * active + 18) / (active + 18))
    assert weight_rms(engine) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("algorithm", "env"), [(PPO, "CartPole-v1"), (DQN, "CartPole-v1"), (SAC, "Pendulum-v1")]
)
def test_each_quantity_has_a_point_each_time(algorithm, env):
    made = model(algorithm, env)
    plasticity = Plasticity(32)
    made.learn(72, callback=plasticity)
    assert set(plasticity.curves) == NAMES
    steps = {tuple(x for x, _ in curve) for curve in plasticity.curves.values()}
    assert steps == {(32, 64, 96) if algorithm is PPO else (32, 64, 72)}
    assert {value for _, value in plasticity.curves["churn"]} == {0.0}
    assert plasticity.curves["effective_rank"][-1][1] == representation_rank(made)
    dormant = [value for name, value in activity(made).items() if name.endswith("0.025")]
    assert plasticity.curves["dormant"][-1][1] == pytest.approx(sum(dormant) / len(dormant))


def test_a_second_training_goes_on_from_the_first():
    made = model()
    plasticity = Plasticity(32)
    made.learn(64, callback=plasticity)
    made.learn(64, callback=plasticity)
    made.learn(32, callback=plasticity, reset_num_timesteps=False)
    assert [x for x, _ in plasticity.curves["weight_rms"]] == [32, 64, 96, 128, 160]


def test_churn_counts_what_was_replaced_since_the_last_point():
    made = model()
    engine = made.policy.sparse_engines["policy"]
    tensor = engine.tensors[0]

    def move(local, given):
        if local["self"].num_timesteps == 10:
            before = tensor.active().clone()
            after = before.clone().flatten()
            after[before.flatten().nonzero()[:3, 0]] = False
            after[(~before).flatten().nonzero()[:3, 0]] = True
            tensor.apply(Delta.between(before, after.view_as(before)))
        return True

    plasticity = Plasticity(32)
    made.learn(64, callback=CallbackList([plasticity, ConvertCallback(move)]))
    total = sum(one.count() for one in engine.tensors)
    assert plasticity.curves["churn"] == [[32, pytest.approx(3 / total)], [64, 0.0]]


def test_a_dense_network_has_no_churn():
    made = model(method="dense", sparsity=0.0)
    plasticity = Plasticity(32)
    made.learn(32, callback=plasticity)
    assert set(plasticity.curves) == NAMES - {"churn", "gradient_snr"}


def test_measuring_changes_nothing_of_a_run(tmp_path):
    values = {
        "steps": 256,
        "hyper": {"n_steps": 32, "batch_size": 32},
        "eval_every": 64,
        "eval_episodes": 1,
        "sparse": {"method": "rigl", "sparsity": 0.8, "update_every": 3},
    }
    results = [
        run(RLSpec.of(plasticity=asked, **values), tmp_path, lambda done, said: None)
        for asked in (False, True)
    ]
    curves = results[1].pop("plasticity")
    assert set(curves) == NAMES
    assert [x for x, _ in curves["churn"]] == [256]
    assert results[0]["curve"] == results[1]["curve"]
    assert results[0]["returns"] == results[1]["returns"]


def test_it_is_true_or_false():
    with pytest.raises(ValueError, match=r"^plasticity='yes': must be true or false$"):
        RLSpec(plasticity="yes")
