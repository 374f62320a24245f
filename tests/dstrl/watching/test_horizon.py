"""The planned number of optimizer steps is the number that is done; the callback tells and logs."""

from __future__ import annotations

import pytest
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger

import dstrl
from dstrl.watching.callbacks import SparseCallback

CASES = [
    (PPO, 1, dict(n_steps=32, batch_size=16, n_epochs=3), 100),
    (PPO, 2, dict(n_steps=20, batch_size=8, n_epochs=2), 90),
    (A2C, 1, dict(n_steps=5), 33),
    (A2C, 3, dict(n_steps=4), 50),
    (DQN, 1, dict(learning_starts=10, train_freq=4, gradient_steps=2, batch_size=4), 50),
    (DQN, 2, dict(learning_starts=7, train_freq=3, gradient_steps=-1, batch_size=4), 50),
    (SAC, 1, dict(learning_starts=10, batch_size=4), 30),
    (SAC, 2, dict(learning_starts=11, batch_size=4, train_freq=2, gradient_steps=3), 40),
    (TD3, 1, dict(learning_starts=10, batch_size=4, policy_delay=3), 30),
    (DDPG, 1, dict(learning_starts=0, batch_size=4), 20),
]


def build(algorithm, n_envs=1, **arguments):
    dstrl.register()
    discrete = algorithm in (PPO, A2C, DQN)
    return algorithm(
        "SparseMlpPolicy",
        make_vec_env("CartPole-v1" if discrete else "Pendulum-v1", n_envs),
        policy_kwargs=dict(sparse=dict(method="set", sparsity=0.5, update_every=2), net_arch=[4]),
        device="cpu",
        **arguments,
    )


@pytest.mark.parametrize(("algorithm", "n_envs", "arguments", "steps"), CASES)
def test_the_planned_steps_are_the_steps_done(algorithm, n_envs, arguments, steps):
    model = build(algorithm, n_envs, **arguments).learn(steps, callback=SparseCallback())
    for engine in model.policy.sparse_engines.values():
        assert engine.steps > 0
        assert engine.horizon == engine.steps
    planned = {name: e.horizon for name, e in model.policy.sparse_engines.items()}
    model.learn(steps, callback=SparseCallback(), reset_num_timesteps=False)
    for name, engine in model.policy.sparse_engines.items():
        assert engine.horizon == engine.steps > planned[name]


def test_training_by_whole_episodes_is_planned_but_for_one_episode():
    by_episode = dict(train_freq=(1, "episode"), gradient_steps=-1)
    model = build(SAC, learning_starts=50, batch_size=4, **by_episode)
    model.learn(400, callback=SparseCallback())
    for engine in model.policy.sparse_engines.values():
        assert (engine.steps, engine.horizon) == (400, 350)


def test_training_by_episodes_with_fixed_gradient_steps_has_no_known_horizon():
    model = build(SAC, learning_starts=10, batch_size=4, train_freq=(1, "episode"))
    model.learn(250, callback=SparseCallback())
    assert [engine.horizon for engine in model.policy.sparse_engines.values()] == [None, None]


def test_the_users_own_horizon_is_kept():
    dstrl.register()
    model = PPO(
        "SparseMlpPolicy",
        "CartPole-v1",
        n_steps=64,
        policy_kwargs=dict(sparse=dict(method="set", horizon=77)),
        device="cpu",
    )
    model.learn(32, callback=SparseCallback())
    assert model.policy.sparse_engines["policy"].horizon == 77


def test_without_the_callback_updates_go_on_at_the_first_fraction():
    model = build(A2C)
    model.learn(40)
    (engine,) = model.policy.sparse_engines.values()
    assert (engine.horizon, engine.steps, engine.updates) == (None, 8, 4)


def test_it_logs_under_the_promised_names():
    model = build(A2C, n_steps=4)
    logger = Logger(None, [object()])
    model.set_logger(logger)
    logger.dump = lambda step=0: None
    model.learn(32, callback=SparseCallback())
    kept = dict(logger.name_to_value)
    (engine,) = model.policy.sparse_engines.values()
    assert kept["dst/policy/updates"] == engine.updates == 2
    assert kept["dst/policy/n_grown"] == kept["dst/policy/n_dropped"]
    assert kept["dst/policy/drop_fraction"] == 0
    assert 0.5 < kept["dst/policy/itop_rs"] <= 1
    assert 0 < kept["dst/policy/overlap"] <= 1
    assert kept["params/total_active"] == sum(x.active for x in engine.layers())
    assert {k for k in kept if k.startswith("sparsity/")} == {
        "sparsity/policy/mlp_extractor.policy_net.0",
        "sparsity/policy/mlp_extractor.value_net.0",
        "sparsity/policy/action_net",
        "sparsity/policy/value_net",
    }
    assert engine.observers == []


def test_it_refuses_a_policy_that_is_not_sparse():
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu")
    with pytest.raises(ValueError, match="ActorCriticPolicy: SparseCallback needs a sparse policy"):
        model.learn(32, callback=SparseCallback())
