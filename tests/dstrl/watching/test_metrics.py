"""What the callback logs, against counts made by hand; and that looking changes nothing."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

import dstrl
from dstrl.watching.callbacks import SparseCallback
from dstrl.watching.losses import losses_of, samples_of
from dstrl.watching.metrics import (
    active_neurons,
    activity,
    flops_ratios,
    gradient_noise,
    representation_rank,
    topology_numbers,
)
from dstrl.watching.transitions import last_observed
from sparse_core.metrics import TopologyMeter, effective_rank, gradient_snr

SHORT = {
    PPO: dict(n_steps=32, batch_size=32, n_epochs=4),
    A2C: dict(n_steps=8),
    DQN: dict(learning_starts=8, train_freq=1, batch_size=4),
    SAC: dict(learning_starts=8, batch_size=4),
    TD3: dict(learning_starts=8, batch_size=4),
}


def build(algorithm, envs=None, **sparse):
    dstrl.register()
    name = "CartPole-v1" if algorithm in (PPO, A2C, DQN) else "Pendulum-v1"
    sparse = dict(method="rigl", sparsity=0.75, distribution="uniform", update_every=2) | sparse
    return algorithm(
        "SparseMlpPolicy",
        envs or make_vec_env(name, 2, seed=0),
        policy_kwargs=dict(sparse=sparse, net_arch=[8, 8]),
        seed=0,
        device="cpu",
        **SHORT[algorithm],
    )


@pytest.mark.parametrize("algorithm", SHORT)
def test_the_callback_changes_nothing_but_the_horizon(algorithm):
    watched = build(algorithm, horizon=30).learn(64, callback=SparseCallback())
    alone = build(algorithm, horizon=30).learn(64)
    mine, other = watched.policy.state_dict(), alone.policy.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize("algorithm", SHORT)
def test_every_network_has_every_number(algorithm):
    model = build(algorithm)
    logged = {}
    model.set_logger(Recorder(logged))
    model.learn(64, callback=SparseCallback())
    for net, engine in model.policy.sparse_engines.items():
        for key in (
            "drop_fraction",
            "updates",
            "n_grown",
            "n_dropped",
            "itop_rs",
            "overlap",
            "divergence",
        ):
            assert np.isfinite(logged[f"dst/{net}/{key}"])
        assert 0 <= logged[f"dst/{net}/churn"] <= 1
        assert logged[f"dst/{net}/grad_snr"] > 0
        for key in ("active_frac", "dormant_0", "dormant_0.025"):
            assert 0 <= logged[f"neurons/{net}/{key}"] <= 1
        for layer in engine.layers():
            label = layer.name.removesuffix(".weight")
            assert logged[f"sparsity/{net}/{label}"] == 1 - layer.active / layer.total
    assert 1 <= logged["rep/srank"] <= 8
    assert 0 < logged["flops/infer_ratio"] < logged["flops/train_ratio"] < 1


class Recorder:
    def __init__(self, kept):
        self.kept = kept

    def record(self, key, value, exclude=None):
        self.kept[key] = value

    def dump(self, step=0):
        pass


def test_nothing_is_computed_where_nothing_is_written(monkeypatch):
    monkeypatch.setattr(
        "dstrl.watching.callbacks.flops_ratios", lambda model: pytest.fail("looked")
    )
    build(PPO).learn(64, callback=SparseCallback())


def test_the_rank_is_that_of_the_features_before_the_value():
    model = build(DQN).learn(32)
    observations, _ = last_observed(model, 256)
    with torch.no_grad():
        hidden = model.q_net.q_net[:-1](observations)
        assert representation_rank(model) == effective_rank(hidden)
        model.q_net.q_net[2].weight.zero_()
        model.q_net.q_net[2].bias.zero_()
    assert representation_rank(model) == 0


def test_the_rank_of_two_critics_is_their_mean():
    model = build(SAC).learn(32)
    observations, actions = last_observed(model, 256)
    with torch.no_grad():
        inputs = torch.cat([observations, actions], dim=1)
        ranks = [effective_rank(net[:-1](inputs)) for net in model.critic.q_networks]
    assert representation_rank(model) == np.mean(ranks)


def test_the_noise_is_the_mean_over_all_weights_of_the_samples_ratio():
    model = build(DQN).learn(32)
    samples, loss = samples_of(model, 16), losses_of(model)["q_net"]
    gradients = []
    for sample in samples:
        model.q_net.zero_grad()
        loss(sample).backward()
        gradients.append([p.grad.clone() for n, p in model.q_net.named_parameters() if "wei" in n])
    engine = model.q_net.sparse_engine
    layers = gradient_snr(engine, loss, samples)
    first = torch.stack([gradient[0] for gradient in gradients])
    ratio = (first.mean(0).abs() / first.std(0))[engine.tensors[0].active()]
    wanted = float(ratio[ratio.isfinite()].mean())
    assert layers["q_net.0.weight"].active == pytest.approx(wanted, rel=1e-4)
    sizes = {tensor.name: tensor.numel for tensor in engine.tensors}
    mean = sum(sizes[name] * layers[name].overall for name in sizes) / sum(sizes.values())
    assert gradient_noise(model) == {"q_net": pytest.approx(mean)}


def test_flops_of_an_actor_critic_policy_by_hand():
    model = build(PPO).learn(64)
    # 4 -> 8 -> 8 -> 2 and 4 -> 8 -> 8 -> 1, a quarter of each layer's weights
    quarter = {32: 8, 64: 16, 16: 4, 8: 2}
    actor = [32, 64, 16]
    critic = [32, 64, 8]
    assert flops_ratios(model)["infer_ratio"] == sum(map(quarter.get, actor)) / sum(actor)
    dense = sum(actor + critic)
    sparse = sum(map(quarter.get, actor + critic))
    rigl = (3 * sparse * 2 + 2 * sparse + dense) / 3
    assert flops_ratios(model)["train_ratio"] == pytest.approx(rigl / (3 * dense))


S, D = 0.25, 1.0
RIGL = (3 * S * 10 + 2 * S + D) / 11


@pytest.mark.parametrize(
    ("settings", "operations"),
    [
        (dict(method="static"), 3 * S),
        (dict(method="rigl"), RIGL),
        (dict(method="rigl", gradient_steps=10), (3 * S + 10 * (2 * S + D)) / 11),
        (dict(method="rigl", growth="adam_momentum"), 2 * S + D),
        (dict(method="snfs"), 2 * S + D),
        (dict(method="set"), 3 * S),
        (dict(method="mest"), 3 * S),
        (dict(method="set", drop="sensitivity", growth="importance"), 3 * S),
        (dict(method="topkast", backward_sparsity=0.5), 2 * S + 0.5),
        (dict(method="edge_popup"), 2 * S + D),
        (dict(method="gse"), 3 * S + S / 11),
    ],
)
def test_training_costs_what_growth_looks_at(settings, operations):
    algorithm = SAC if settings["method"] == "gse" else PPO
    backend = "masked" if settings["method"] in ("topkast", "edge_popup") else "auto"
    model = build(algorithm, update_every=10, backend=backend, **settings).learn(64)
    assert flops_ratios(model)["train_ratio"] == pytest.approx(operations / 3)


def test_a_dense_network_costs_what_it_costs():
    model = build(SAC, method="dense").learn(32)
    assert flops_ratios(model) == {"infer_ratio": 1.0, "train_ratio": 1.0}
    engine = model.policy.sparse_engines["actor"]
    assert topology_numbers(engine, TopologyMeter(engine)) == {"updates": 0}
    assert active_neurons(engine) == {}


def test_dormant_neurons_are_found():
    model = build(SAC).learn(32)
    first = model.actor.latent_pi[0]
    with torch.no_grad():
        first.weight[:4] = 0
        first.bias[:4] = -1
    found = activity(model)
    assert found["actor/dormant_0"] >= 4 / 16
    assert found["actor/dormant_0.025"] >= found["actor/dormant_0"]
    assert "critic/dormant_0" in found


def test_last_observed_is_what_the_networks_saw():
    envs = VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0))
    model = build(SAC, envs)
    assert last_observed(model, 10) is None
    model.learn(24)
    observations, actions = last_observed(model, 6)
    assert observations.shape == (6, 3) and actions.shape == (6, 1)
    raw = model.replay_buffer.observations[9:12].reshape(6, 3)
    assert np.allclose(observations.numpy(), envs.normalize_obs(raw))
    assert torch.equal(actions[-1], torch.as_tensor(model.replay_buffer.actions[11, 1]))


def test_looking_leaves_modes_and_random_streams_alone():
    model = build(PPO).learn(64)
    before, state = torch.get_rng_state(), copy.deepcopy(model.policy.state_dict())
    model.policy.set_training_mode(True)
    numbers = np.random.get_state()[1].copy()
    activity(model)
    flops_ratios(model)
    gradient_noise(model)
    representation_rank(model)
    assert np.array_equal(numbers, np.random.get_state()[1])
    assert model.policy.mlp_extractor.training
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(state[k], v) for k, v in model.policy.state_dict().items())
