"""`policy.condense()`: small, and it acts as the policy that was trained does."""

from __future__ import annotations

import io

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv

import dstrl
from sparse_core.layers.condensed import CondensedLinear

DISCRETE = (PPO, A2C, DQN)
SHORT = dict(learning_starts=10, batch_size=16, buffer_size=400)
ARGUMENTS = {PPO: dict(n_steps=64, batch_size=32, n_epochs=4), A2C: {}}


def trained(algorithm, backend, **extra):
    dstrl.register()
    sparse = dict(method="srigl", sparsity=0.9, update_every=5, ablation_threshold=0.9)
    model = algorithm(
        "SparseMlpPolicy",
        "CartPole-v1" if algorithm in DISCRETE else "Pendulum-v1",
        policy_kwargs=dict(sparse=sparse | dict(backend=backend), net_arch=[32, 32]),
        seed=2,
        device="cpu",
        **ARGUMENTS.get(algorithm, SHORT),
        **extra,
    )
    return model.learn(130)


def observations(space, count):
    space.seed(0)
    return np.stack([space.sample() for _ in range(count)]).clip(-5, 5)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN, SAC, TD3, DDPG])
def test_it_predicts_the_same_actions(algorithm, backend):
    model = trained(algorithm, backend)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    small = model.policy.condense()
    batch = observations(model.observation_space, 50)
    for inputs in (batch, batch[0]):
        expected, _ = model.predict(inputs, deterministic=True)
        actions, _ = small.predict(inputs, deterministic=True)
        np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-5)
    state = model.policy.state_dict()
    assert state.keys() == before.keys()
    assert all(torch.equal(before[key], state[key]) for key in state)
    model.learn(40, reset_num_timesteps=False)


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([3, 4]), spaces.MultiBinary(5)])
def test_actions_of_several_parts_do_not_keep_the_last_batch(space):
    dstrl.register()
    cartpole = gym.make("CartPole-v1")
    env = gym.wrappers.TransformAction(cartpole, lambda action: int(action.sum() > 2), space)
    model = PPO("SparseMlpPolicy", env, n_steps=64, n_epochs=2, seed=0, device="cpu").learn(64)
    small = model.policy.condense()
    batch = observations(model.observation_space, 20)
    expected, _ = model.predict(batch, deterministic=True)
    actions, _ = small.predict(batch, deterministic=True)
    assert np.array_equal(actions, expected)


def test_only_what_acting_needs_is_left():
    model = trained(SAC, "condensed")
    small = model.policy.condense()
    assert {name.partition(".")[0] for name, _ in small.named_parameters()} == {"actor"}
    assert not small.sparse_engines
    assert not any(parameter.requires_grad for parameter in small.parameters())
    layers = [m for m in small.modules() if isinstance(m, torch.nn.Linear)]
    assert {type(layer) for layer in layers} == {CondensedLinear}


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_ablated_neurons_are_gone_where_the_next_layer_is_known(algorithm):
    model = trained(algorithm, "condensed")
    net = model.policy.mlp_extractor.policy_net
    ablated = [len(net[i].pattern.absent) for i in (0, 2)]
    assert sum(ablated) > 0
    small = model.policy.condense()
    left = [small.mlp_extractor.policy_net[i].out_features for i in (0, 2)]
    assert all(n <= max(1, 32 - count) for n, count in zip(left, ablated, strict=True))
    assert small.action_net.in_features == small.mlp_extractor.policy_net[2].out_features
    batch = torch.from_numpy(observations(model.observation_space, 20))
    torch.testing.assert_close(
        small.predict_values(batch), model.policy.predict_values(batch).detach()
    )


def test_state_dependent_exploration_keeps_its_features():
    dstrl.register()
    model = SAC(
        "SparseMlpPolicy",
        "Pendulum-v1",
        use_sde=True,
        policy_kwargs=dict(sparse=dict(method="srigl", backend="condensed"), net_arch=[48, 48]),
        seed=2,
        device="cpu",
    ).learn(120)
    small = model.policy.condense()
    batch = observations(model.observation_space, 5)
    expected, _ = model.predict(batch, deterministic=True)
    np.testing.assert_allclose(small.predict(batch, deterministic=True)[0], expected, atol=1e-5)
    assert small.predict(batch)[0].shape == expected.shape


def test_it_can_be_saved_and_loaded_whole():
    small = trained(SAC, "condensed").policy.condense()
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    batch = observations(small.observation_space, 5)
    mine, theirs = (p.predict(batch, deterministic=True)[0] for p in (small, again))
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.filterwarnings("ignore:Layers that stay masked")
@pytest.mark.parametrize(
    ("name", "env"),
    [
        ("SparseCnnPolicy", lambda: FakeImageEnv(screen_height=40, screen_width=40, n_channels=1)),
        ("SparseMultiInputPolicy", lambda: SimpleMultiObsEnv(random_start=False)),
    ],
)
def test_images_and_dictionaries(name, env):
    dstrl.register()
    extractor = dict(features_dim=16) if "Cnn" in name else dict(cnn_output_dim=16)
    model = PPO(
        name,
        env(),
        n_steps=16,
        batch_size=8,
        n_epochs=2,
        policy_kwargs=dict(
            sparse=dict(method="rigl", update_every=2, backend="condensed"),
            net_arch=[16],
            features_extractor_kwargs=extractor,
        ),
        device="cpu",
        seed=0,
    ).learn(32)
    small = model.policy.condense(batch=8)
    space = model.observation_space
    assert isinstance(space, (spaces.Box, spaces.Dict))
    assert isinstance(model.env.envs[0], gym.Env)
    expected, _ = model.predict(space.sample(), deterministic=True)
    for _ in range(3):
        inputs = space.sample()
        expected, _ = model.predict(inputs, deterministic=True)
        assert small.predict(inputs, deterministic=True)[0] == expected
