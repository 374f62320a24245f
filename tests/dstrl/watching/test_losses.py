"""The losses, against the gradients that Stable-Baselines3's own training leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env

import dstrl
from dstrl.watching.losses import losses_of, samples_of

OFF_POLICY = dict(learning_starts=20, batch_size=16, learning_rate=0.0)
SETTINGS = {
    PPO: dict(n_steps=8, batch_size=16, n_epochs=1, learning_rate=0.0, ent_coef=0.1),
    A2C: dict(n_steps=8, learning_rate=0.0, ent_coef=0.1, normalize_advantage=True),
    DQN: OFF_POLICY | dict(train_freq=1, max_grad_norm=1e9),
    SAC: OFF_POLICY,
    TD3: OFF_POLICY | dict(target_policy_noise=0.0, policy_delay=1),
    DDPG: OFF_POLICY,
}


def build(algorithm, env=None):
    dstrl.register()
    env = env or ("CartPole-v1" if algorithm in (PPO, A2C, DQN) else "Pendulum-v1")
    clip = {"max_grad_norm": 1e9} if algorithm in (PPO, A2C) else {}
    return algorithm(
        "SparseMlpPolicy",
        make_vec_env(env, 2, seed=0),
        policy_kwargs=dict(sparse=dict(method="static", sparsity=0.5), net_arch=[8, 8]),
        seed=0,
        device="cpu",
        **SETTINGS[algorithm] | clip,
    )


def gradients(root):
    return [p.grad.clone() for p in root.parameters() if p.grad is not None]


def ours(root, loss, batch):
    root.zero_grad()
    loss(batch).backward()
    return gradients(root)


def agree(one, other):
    assert len(one) == len(other) > 0
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(one, other, strict=True))


def joined(samples):
    """Make one batch of single samples."""
    parts = [None if None in part else torch.cat(part) for part in zip(*samples, strict=True)]
    return type(samples[0])(*parts)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_on_policy(algorithm, env):
    model = build(algorithm, env).learn(16)
    theirs = gradients(model.policy)
    batch = joined(samples_of(model, 16))
    assert batch.advantages.mean() == pytest.approx(0, abs=1e-6)
    agree(ours(model.policy, losses_of(model)["policy"], batch), theirs)


@pytest.mark.parametrize(("algorithm", "net"), [(DQN, "q_net"), (TD3, "critic"), (DDPG, "critic")])
def test_values(algorithm, net, monkeypatch):
    model = build(algorithm).learn(20)
    batch = joined(samples_of(model, 16))
    monkeypatch.setattr(model.replay_buffer, "sample", lambda *args, **kwargs: batch)
    seen = {}
    root = model.policy.sparse_engines[net].root
    optimizer = root.optimizer if hasattr(root, "optimizer") else model.policy.optimizer
    optimizer.register_step_pre_hook(lambda *args: seen.update(grads=gradients(root)))
    model.train(1, 16)
    agree(ours(root, losses_of(model)[net], batch), seen["grads"])


@pytest.mark.parametrize("algorithm", [TD3, DDPG, SAC])
def test_actors_and_sacs_critics(algorithm, monkeypatch):
    model = build(algorithm).learn(20)
    if algorithm is SAC:
        draw = model.actor.action_log_prob
        monkeypatch.setattr(
            model.actor,
            "action_log_prob",
            lambda observations: (torch.manual_seed(5), draw(observations))[1],
        )
    batch = joined(samples_of(model, 16))
    monkeypatch.setattr(model.replay_buffer, "sample", lambda *args, **kwargs: batch)
    seen = {}
    for net in (model.actor, model.critic):
        net.optimizer.register_step_pre_hook(
            lambda *args, net=net: seen.update({net: gradients(net)})
        )
    model.train(1, 16)
    losses = losses_of(model)
    agree(ours(model.actor, losses["actor"], batch), seen[model.actor])
    agree(ours(model.critic, losses["critic"], batch), seen[model.critic])


def test_samples_are_spread_over_the_buffer_and_draw_nothing():
    model = build(SAC).learn(40)
    state = np.random.get_state()[1].copy()
    samples = samples_of(model, 5)
    assert np.array_equal(state, np.random.get_state()[1])
    rewards = [sample.rewards.item() for sample in samples]
    held = model.replay_buffer.rewards[[19, 15, 10, 5, 0]]
    assert all(reward in held[i] for i, reward in enumerate(rewards))
    assert [len(sample.actions) for sample in samples] == [1] * 5
