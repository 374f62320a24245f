"""A program works on the model's own memory, and is no part of what is saved, copied or pickled."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC as ORIGINAL
from stable_baselines3.common.logger import Logger

import dstrl
from tests.dstrl.compiled.lab import Still, agent, bring, step, tensors, twin_of, worst

CLOSE = 1e-6


def loaded(model, kind):
    """An agent that was saved and loaded."""
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    again = kind.load(file, env=Still(), device="cpu")
    again.replay_buffer = model.replay_buffer
    again.set_logger(Logger(None, []))
    return again


@pytest.mark.parametrize("saved_compiled", [True, False])
@pytest.mark.parametrize("kind", [dstrl.SAC, ORIGINAL])
def test_a_run_goes_on_from_a_file_compiled_or_not(saved_compiled, kind):
    model = agent()
    model.compiled = saved_compiled
    step(model, steps=7)
    again = loaded(model, kind)
    if kind is dstrl.SAC:
        again.compiled = True
        assert again._program is None
    assert worst(again, model)[0] == 0
    (mine, _), (theirs, _) = step(again, seed=3), step(model, seed=3)
    assert worst(again, model)[0] <= CLOSE
    assert mine.keys() == theirs.keys()
    if kind is dstrl.SAC:
        assert again._program is not None and again.uncompiled is None


def test_nothing_of_a_program_is_in_the_file():
    model = agent()
    step(model, steps=3)
    assert model._program is not None
    assert not [name for name, value in vars(loaded(model, dstrl.SAC)).items() if "program" in name]


def test_a_copy_trains_itself():
    model = agent()
    step(model, steps=3)
    copied = copy.deepcopy(model)
    before = {name: tensor.clone() for name, tensor in tensors(model).items()}
    step(copied, steps=2)
    assert copied._program is not None and copied._program is not model._program
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(model).items())
    step(model, steps=2)
    assert worst(model, copied)[0] <= CLOSE


def test_loaded_parameters_are_trained_from_there():
    model, other = agent(), agent(seed=9)
    twin = twin_of(model)
    for each in (model, other):
        step(each, steps=3)
    with torch.no_grad():
        model.set_parameters(copy.deepcopy(other.get_parameters()))
    bring(twin, model)
    step(model, seed=4), step(twin, seed=4)
    assert model.uncompiled is None
    assert worst(model, twin)[0] <= CLOSE


def test_replaced_tensors_are_found():
    model = agent()
    twin = twin_of(model)
    step(model, steps=3)
    for parameter in model.critic.parameters():
        parameter.data = parameter.data.clone() * 1.5
    bring(twin, model)
    step(model, seed=4), step(twin, seed=4)
    assert worst(model, twin)[0] <= CLOSE


def test_predictions_are_those_of_the_trained_weights():
    model = agent()
    step(model, steps=2)
    observation = np.ones((4, 11), np.float32)
    before = model.predict(observation, deterministic=True)[0]
    step(model, steps=2)
    after = model.predict(observation, deterministic=True)[0]
    twin = twin_of(model)
    bring(twin, model)
    assert (after != before).any()
    assert np.array_equal(after, twin.predict(observation, deterministic=True)[0])


def test_several_steps_log_the_means_that_stable_baselines3_logs():
    model = agent("TD3", sparse={"update_every": 3})
    twin = twin_of(model, "TD3", sparse={"update_every": 3})
    for seed in range(3):
        mine, drawn = step(model, seed=seed, steps=4)
        theirs, expected = step(twin, seed=seed, steps=4)
        assert drawn == expected
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            assert mine[name] == pytest.approx(value, rel=1e-3), name
        bring(twin, model)
    assert model._program is not None


def test_a_batch_of_another_size_is_computed_as_it_is():
    model, twin = agent(), twin_of(agent())
    for batch, seed in ((16, 0), (16, 1), (32, 2), (16, 3)):
        step(model, batch, seed)
        assert model._program is None or model._program.batch_size == batch
        bring(twin, model)
    step(model, 9, 5), step(twin, 9, 5)
    assert worst(model, twin)[0] <= CLOSE


def test_it_can_be_switched_off_and_on():
    model, twin = agent(), twin_of(agent())
    for seed, on in enumerate([True, True, False, True, True]):
        model.compiled = on
        step(model, seed=seed)
        bring(twin, model)
    assert model._program is not None
    step(model, seed=9), step(twin, seed=9)
    assert worst(model, twin)[0] <= CLOSE


def test_modes_reach_modules_that_were_switched_by_hand():
    policy = agent().policy
    policy.set_training_mode(False)
    assert not any(module.training for module in policy.modules())
    policy.actor.latent_pi.train()
    policy.set_training_mode(False)
    assert not any(module.training for module in policy.modules())
