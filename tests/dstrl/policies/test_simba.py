"""SimBa's policies: their networks as in the paper, normalisation in the state, refusals."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import A2C, DDPG, PPO, SAC, TD3
from torch import nn

from dstrl import register
from dstrl.policies.normalising import EPSILON, RunningNormalisation
from dstrl.policies.residual import trunk
from sparse_core.layers.residual import Residual

OFF_POLICY = [SAC, TD3, DDPG, TQC, CrossQ]
ALGORITHMS = [*OFF_POLICY, PPO, A2C]
FEW = {"rigl": dict(method="rigl", sparsity=0.5, update_every=5)}

register()


def made(algorithm, backend="masked", block="simba", env="Pendulum-v1", **given):
    options = {PPO: dict(n_steps=32, batch_size=16), A2C: dict(n_steps=5)}.get(
        algorithm, dict(learning_starts=20, batch_size=16)
    )
    arch = {"pi": [8], "vf" if algorithm in (PPO, A2C) else "qf": [16, 16]}
    sparse = FEW["rigl"] | {"backend": backend}
    policy_kwargs = dict(net_arch=arch, block=block, sparse=sparse) | given
    return algorithm(
        "SparseSimbaPolicy", env, policy_kwargs=policy_kwargs, seed=0, device="cpu", **options
    )


def kinds(modules):
    return [
        [type(m).__name__ for m in child.inner] if isinstance(child, Residual) else type(child)
        for child in modules
    ]


def test_the_default_networks_are_the_papers():
    model = SAC("SparseSimbaPolicy", "Pendulum-v1", policy_kwargs=dict(sparse={"method": "dense"}))
    block = ["LayerNorm", "Linear", "ReLU", "Linear"]
    critic, latent = model.critic.qf0, model.actor.latent_pi
    assert kinds(critic) == [nn.Linear, block, block, nn.LayerNorm, nn.Linear]
    assert kinds(latent) == [nn.Linear, block, nn.LayerNorm]
    shapes = [tuple(m.weight.shape) for m in critic.modules() if isinstance(m, nn.Linear)]
    # Three observed numbers and one action are read by the first layer.
    assert shapes == [(512, 4), (2048, 512), (512, 2048), (2048, 512), (512, 2048), (1, 512)]
    assert [tuple(m.weight.shape) for m in latent.modules() if isinstance(m, nn.Linear)] == [
        (128, 3), (512, 128), (128, 512)
    ]  # fmt: skip
    for optimizer in (model.actor.optimizer, model.critic.optimizer):
        assert isinstance(optimizer, torch.optim.AdamW)
        assert optimizer.param_groups[0]["weight_decay"] == 0.01


def test_a_block_by_hand():
    torch.manual_seed(0)
    first, block, norm = trunk(3, [8], nn.ReLU)
    x = torch.randn(5, 3)
    y = first(x)
    before, wide, _, narrow = block.inner
    y = y + narrow(torch.relu(wide(before(y))))
    torch.testing.assert_close(nn.Sequential(first, block, norm)(x), norm(y))
    assert wide.weight.shape == (32, 8)
    torch.testing.assert_close(first.weight.T @ first.weight, torch.eye(3))
    # BRO: a LayerNorm behind each layer, no wider inside.
    bro = trunk(3, [8], nn.ReLU, "bro")
    assert kinds(bro) == [
        nn.Linear, nn.LayerNorm, nn.ReLU, ["Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm"]
    ]  # fmt: skip
    assert trunk(3, [], nn.ReLU) == []


def test_statistics_are_those_of_all_batches_and_count_from_the_end_of_training_on():
    generator = torch.Generator().manual_seed(0)
    batches = [3 + 2 * torch.randn(n, 2, generator=generator) for n in (4, 9, 1, 6)]
    norm = RunningNormalisation(spaces.Box(-9, 9, (2,)))
    norm.train()
    for batch in batches[:2]:
        torch.testing.assert_close(norm(batch), batch / np.sqrt(1 + EPSILON))
    norm.eval()
    norm.train()
    for batch in batches[2:]:
        norm(batch)
    norm.eval()
    seen = torch.cat(batches)
    torch.testing.assert_close(norm.running_mean, seen.mean(0))
    torch.testing.assert_close(norm.running_var, seen.var(0, correction=0))
    assert float(norm.running_count) == 20
    scaled = norm(seen)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(scaled.var(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_learns_and_a_saved_policy_carries_its_statistics(algorithm, backend, tmp_path):
    model = made(algorithm, backend)
    model.learn(50)
    assert all(engine.updates for engine in model.policy.sparse_engines.values())
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", device="cpu")
    states = model.policy.state_dict(), loaded.policy.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))
    counts = [float(v) for k, v in states[0].items() if k.endswith("extractor.running_count")]
    assert min(counts) > 0
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    first, second = (m.predict(observations, deterministic=True)[0] for m in (model, loaded))
    assert np.array_equal(first, second)
    condensed = model.policy.condense(4)
    torch.testing.assert_close(
        torch.as_tensor(condensed.predict(observations, deterministic=True)[0]),
        torch.as_tensor(first),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_targets_normalise_as_the_networks_they_follow(algorithm):
    model = made(algorithm)
    model.learn(40)
    for online, target in (("critic", "critic_target"), ("actor", "actor_target")):
        if hasattr(model, target):
            theirs = getattr(model, target).features_extractor.running_mean
            assert torch.equal(theirs, getattr(model, online).features_extractor.running_mean)
            assert theirs.abs().max() > 0


def test_masked_and_condensed_networks_are_the_same():
    outputs = []
    for backend in ("masked", "condensed"):
        model = made(SAC, backend)
        x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
        outputs.append(model.critic.qf0(x))
        outputs[-1].sum().backward()
        first = model.critic.qf0[0]
        outputs.append(first.bias.grad)
    torch.testing.assert_close(outputs[:2], outputs[2:])


class Pictures(gym.Env):
    observation_space = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    action_space = spaces.Box(-1, 1, (1,))


class Dictionary(Pictures):
    observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (2,))})


REFUSED = [
    (SAC, dict(env=Pictures()), "the observations are images; use 'SparseCnnPolicy'"),
    (PPO, dict(env=Pictures()), "the observations are images; use 'SparseCnnPolicy'"),
    (TD3, dict(env=Dictionary()), "are dictionaries; use 'SparseMultiInputPolicy'"),
    (SAC, dict(net_arch=[8, 16]), r"net_arch=[8, 16]: residual blocks must have one width"),
    (SAC, dict(block="plain"), "block='plain': must be one of simba, bro"),
]


@pytest.mark.parametrize(("algorithm", "given", "message"), REFUSED)
def test_what_it_cannot_do_is_refused_by_name(algorithm, given, message):
    with pytest.raises(ValueError) as caught:
        made(algorithm, **given)
    assert message in str(caught.value) and "\n" not in str(caught.value)
