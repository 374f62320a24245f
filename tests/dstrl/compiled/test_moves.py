"""Compiled steps after which the topology moves."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tests.dstrl.compiled.lab import agent, bring, step, tensors, twin_of, worst

CLOSE = 1e-6
CASES = {
    "rigl": {"method": "rigl"},
    "groups": {"group": 4},
    "random growth": {"method": "set"},
    "targets that lag": {"target": "copy"},
}


def options_of(case, every=1):
    return {"arch": (40, 24), "sparse": {"update_every": every, **CASES[case]}}


PAIRS = [("SAC", case) for case in CASES] + [
    ("TD3", "targets that lag"),
    ("TD3", "rigl"),
    ("DDPG", "groups"),
    ("DQN", "groups"),
    ("DQN", "targets that lag"),
]


@pytest.mark.parametrize(("algorithm", "case"), PAIRS)
def test_weights_moments_targets_and_topologies_are_stable_baselines3s(algorithm, case):
    options = options_of(case)
    model = agent(algorithm, **options)
    twin = twin_of(model, algorithm, **options)
    moved = 0
    for seed in range(5):
        bring(twin, model)
        (mine, drawn), (theirs, expected) = step(model, 16, seed), step(twin, 16, seed)
        moved += model._program is not None and model._program.moving
        assert drawn == expected and mine.keys() == theirs.keys()
        assert worst(model, twin)[0] <= CLOSE, (seed, worst(model, twin))
    assert model.uncompiled is None and moved >= 3


@pytest.mark.parametrize("case", ["rigl", "groups"])
def test_a_tape_that_was_followed_is_as_one_that_is_made_anew(case):
    model = agent("SAC", **options_of(case, every=3))
    step(model, 16, steps=7)
    tapes = list(model._program._tapes)
    step(model, 16, seed=1, steps=2)
    other = copy.deepcopy(model)
    other.replay_buffer = model.replay_buffer
    assert model._program._tapes == tapes and other._program is None
    for seed in range(3):
        step(model, 16, seed), step(other, 16, seed)
    mine, theirs = tensors(model), tensors(other)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_nothing_moves_where_a_gradient_is_not_finite():
    model = agent("SAC", **options_of("rigl", every=3))
    step(model, 16, steps=5)
    assert model._program is not None
    before = {name: weight.clone() for name, weight in model.critic.state_dict().items()}
    model.replay_buffer.rewards[:] = np.inf
    with pytest.raises(FloatingPointError, match="gradients are NaN or infinite"):
        step(model, 16)
    after = model.critic.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_a_mean_over_several_gradients_is_for_autograd():
    model = agent("SAC", sparse={"method": "rigl", "update_every": 4, "gradient_steps": 2})
    served = []
    for seed in range(8):
        served.append(model._program is not None and model._program.is_served())
        step(model, 16, seed)
    assert model.uncompiled is None
    assert served == [False, False, False, False, True, True, False, False]
