"""PPO's compiled gradient step and Stable-Baselines3's own, from the same state, do the same."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from torch import nn

import dstrl
from sparse_core.layers.condensed import CondensedLinear
from tests.dstrl.compiled.lab import Still, bring, step, worst

CLOSE = 1e-6


def agent(discrete=False, batch=16, compiled=True, sparse=None, policy=None, **more):
    """A PPO whose rollout is noise."""
    rules = {"method": "srigl", "sparsity": 0.7, "backend": "condensed", "update_every": 4}
    options = {"net_arch": [32, 24], "sparse": rules | {"horizon": 500} | (sparse or {})}
    more = {"n_steps": 16, "n_epochs": 1, "ent_coef": 0.01, "seed": 1, "device": "cpu"} | more
    model = dstrl.PPO(
        dstrl.SparseActorCriticPolicy,
        Still(11, 3, discrete),
        policy_kwargs=options | (policy or {}),
        batch_size=batch,
        **more,
    )
    model.compiled = compiled
    model.set_logger(Logger(None, []))
    noise, buffer = np.random.default_rng(5), model.rollout_buffer
    for name in ("observations", "values", "log_probs", "advantages", "returns"):
        array = getattr(buffer, name)
        array[:] = noise.standard_normal(array.shape)
    size = buffer.actions.shape
    buffer.actions[:] = noise.integers(0, 4, size) if discrete else noise.standard_normal(size)
    seen, taken = (
        torch.from_numpy(buffer.observations[:, 0]),
        torch.from_numpy(buffer.actions[:, 0]),
    )
    with torch.no_grad():
        likely = model.policy.evaluate_actions(seen, taken.flatten() if discrete else taken)[1]
    buffer.log_probs[:] = likely.numpy()[:, None] + 0.1 * buffer.log_probs
    buffer.full = True
    return model


CASES = {
    "vectors": {},
    "one of several": {"discrete": True},
    "odd sizes": {"batch": 7, "n_steps": 7},
    "several minibatches": {"n_steps": 48},
    "clipped values": {"clip_range_vf": 0.1, "normalize_advantage": False},
    "small and masked": {"sparse": {"backend": "masked"}, "discrete": True},
    "groups, ReLU": {"sparse": {"group": 4}, "policy": {"activation_fn": nn.ReLU}},
    "two sparsities": {"sparse": {"actor_sparsity": 0.5, "critic_sparsity": 0.8}},
    "stops early": {"target_kl": 0.004, "n_epochs": 3, "n_steps": 32},
}


def compare(case, rounds):
    """Compare updates from the states along a run, one optimizer step at a time or a few."""
    model, twin = agent(**CASES[case]), agent(**CASES[case], compiled=False)
    for seed in range(rounds):
        bring(twin, model)
        (mine, drawn), (theirs, expected) = step_of(model, seed), step_of(twin, seed)
        assert drawn == expected
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            assert mine[name] == pytest.approx(value, rel=1e-5, abs=3e-6), (name, seed)
        distance, name = worst(model, twin)
        assert distance <= CLOSE * (
            1 if len(model.rollout_buffer.values) <= model.batch_size else 20
        ), (name, seed, distance)
    assert model.uncompiled is None and model._programs
    return model


def step_of(model, seed):
    """Update once on the rollout; return what was logged."""
    train = model.train
    model.train = lambda steps, batch: train()
    try:
        return step(model, seed=seed)
    finally:
        del model.train


@pytest.mark.parametrize("case", CASES)
def test_from_one_state_one_update_is_the_same(case):
    model = compare(case, 6)
    assert all(engine.updates >= 1 for engine in model.policy.sparse_engines.values())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_from_200_states_along_a_run_one_update_is_the_same(case):
    model = compare(case, 200)
    assert all(engine.updates >= 1 for engine in model.policy.sparse_engines.values())


class Counting(RolloutBuffer):
    """A buffer that counts the minibatches it gives."""

    given = 0

    def get(self, batch_size=None):
        for data in super().get(batch_size):
            self.given += 1
            yield data


def test_minibatches_of_a_buffer_of_its_own_kind():
    models = [agent(n_steps=48, batch=16) for _ in range(2)]
    models[0].rollout_buffer.__class__ = Counting
    bring(*models)
    logged = [step_of(model, 0) for model in models]
    assert logged[0] == logged[1] and worst(*models)[0] == 0
    assert models[0].rollout_buffer.given == 3


def test_other_actions_are_left_to_stable_baselines3():
    world = Still()
    world.action_space = gym.spaces.MultiDiscrete([2, 3])
    options = {"net_arch": [32], "sparse": {"backend": "condensed", "sparsity": 0.5}}
    model = dstrl.PPO(
        dstrl.SparseActorCriticPolicy, world, policy_kwargs=options, n_steps=8, batch_size=4
    )
    assert any(isinstance(module, CondensedLinear) for module in model.policy.modules())
    with pytest.warns(UserWarning, match="drawn from a MultiCategoricalDistribution"):
        model.learn(8)


def test_it_learns_with_its_own_rollouts():
    model = agent(discrete=True, n_epochs=2)
    model.learn(64)
    assert model.uncompiled is None and len(model._programs) == 1
    assert model._n_updates == 8
