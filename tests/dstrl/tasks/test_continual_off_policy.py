"""Algorithms with replay buffers and target networks learn tasks in sequence: nothing is lost."""

from __future__ import annotations

import importlib.util

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise

from dstrl.tasks.policies import ContinualDQNPolicy, ContinualSACPolicy, ContinualTD3Policy
from dstrl.tasks.switching import begin_task

SPARSE = dict(method="rigl", sparsity=0.75, distribution="uniform", update_every=3, seed=5)
ENVS = {"discrete": "CartPole-v1", "continuous": "Pendulum-v1"}
NOISE = {"action_noise": NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))}
DISCRETE = {"train_freq": 2, "target_update_interval": 20}

# algorithm, policy, actions, hyper-parameters, environment steps of a task
MODELS = {
    "dqn": (DQN, ContinualDQNPolicy, "discrete", DISCRETE, 60),
    "sac": (SAC, ContinualSACPolicy, "continuous", {}, 30),
    "td3": (TD3, ContinualTD3Policy, "continuous", {"policy_delay": 2} | NOISE, 40),
    "ddpg": (DDPG, ContinualTD3Policy, "continuous", NOISE, 30),
}
if importlib.util.find_spec("sb3_contrib") is not None:
    from sb3_contrib import QRDQN, TQC

    from dstrl.tasks.contrib import ContinualQRDQNPolicy, ContinualTQCPolicy

    MODELS |= {
        "qrdqn": (QRDQN, ContinualQRDQNPolicy, "discrete", DISCRETE, 60),
        "tqc": (TQC, ContinualTQCPolicy, "continuous", {}, 30),
    }


def build(name, share="none", **hyper):
    algorithm, policy, actions, usual, _ = MODELS[name]
    return algorithm(
        policy,
        gym.make(ENVS[actions]),
        policy_kwargs={"sparse": SPARSE, "net_arch": [16, 16], "share": share},
        learning_starts=16,
        batch_size=8,
        buffer_size=200,
        seed=1,
        device="cpu",
        **usual | hyper,
    )


def answers(model):
    """The deterministic actions and all that the networks say about fixed observations."""
    policy = model.policy
    size = model.observation_space.shape[0]
    seen = np.random.default_rng(0).normal(size=(32, size)).astype(np.float32)
    actions, _ = model.predict(seen, deterministic=True)
    observed = torch.from_numpy(seen)
    with torch.no_grad():
        if isinstance(model.action_space, gym.spaces.Discrete):
            net = policy.q_net if hasattr(policy, "q_net") else policy.quantile_net
            said = [net(observed)]
        else:
            said = list(policy.critic(observed, torch.from_numpy(actions)))
            if hasattr(model, "log_ent_coef"):
                said += policy.actor.get_action_dist_params(observed)[:2]
    return [actions, *(values.numpy() for values in said)]


def of_task(model, label):
    with model.policy.task(label):
        return answers(model)


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def pairs(policy):
    """Target networks and what they follow."""
    targets = [(n, t) for n, t in policy.named_children() if n.endswith("_target")]
    return [(getattr(policy, name.removesuffix("_target")), target) for name, target in targets]


@pytest.mark.parametrize("share", ["none", "reuse"])
@pytest.mark.parametrize("name", MODELS)
def test_what_finished_tasks_answer_never_changes_to_the_bit(name, share):
    model = build(name, share)
    kept = {}
    for label in range(3):
        begin_task(model, label)
        before = answers(model)
        model.learn(MODELS[name][-1])
        assert not same(before, answers(model)), "nothing was learnt"
        model.policy.end_task()
        kept[label] = answers(model)
        for earlier in range(label + 1):
            assert same(kept[earlier], of_task(model, earlier))
        assert same(kept[label], answers(model)), "looking at tasks left a trace"
    engines = model.policy.sparse_engines.values()
    assert all(engine.updates > 0 for engine in engines)
    for engine in engines:
        assert all(tensor.count() == tensor.budget for tensor in engine.tensors)


@pytest.mark.parametrize("name", MODELS)
def test_a_switch_resets_what_belonged_to_the_task_before(name):
    model = build(name)
    begin_task(model, 0)
    model.learn(40)
    engines = model.policy.sparse_engines.values()
    assert pairs(model.policy)
    for online, target in pairs(model.policy):
        assert not alike(online, target)
    assert all(engine.optimizer.state for engine in engines)
    begin_task(model, 1)
    assert not any(engine.optimizer.state for engine in engines)
    assert all(engine.phase == 0 and engine.steps > 0 for engine in engines)
    assert model.replay_buffer.pos == 0 and not model.replay_buffer.full
    for online, target in pairs(model.policy):
        assert alike(online, target)


def alike(online, target):
    state = online.state_dict()
    return all(torch.equal(value, state[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith("dqn")])
def test_targets_have_the_masks_of_the_task_in_training(name):
    model = build(name)
    for label in range(2):
        begin_task(model, label)
        model.learn(MODELS[name][-1])
    for online, target in pairs(model.policy):
        masks = {key: mask for key, mask in online.named_buffers() if key.endswith("weight_mask")}
        assert masks
        for key, mask in masks.items():
            assert torch.equal(mask, target.get_buffer(key))
            assert mask.sum() < mask.numel()


@pytest.mark.parametrize("name", MODELS)
def test_tasks_are_saved_and_loaded(name, tmp_path):
    model = build(name)
    for label in (4, 2):
        begin_task(model, label)
        model.learn(MODELS[name][-1])
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.get_env(), device="cpu")
    assert loaded.policy.finished_tasks == [4] and loaded.policy.training_task == 2
    assert same(of_task(model, 4), of_task(loaded, 4)) and same(answers(model), answers(loaded))
    kept = of_task(model, 4)
    begin_task(loaded, 0)
    loaded.learn(MODELS[name][-1])
    assert same(kept, of_task(loaded, 4)) and not same(kept, answers(loaded))


@pytest.mark.parametrize("name", [name for name in MODELS if name in ("sac", "tqc")])
@pytest.mark.parametrize(("ent_coef", "initial"), [("auto", 1.0), ("auto_0.1", 0.1)])
def test_a_switch_resets_the_entropy_coefficient(name, ent_coef, initial):
    model = build(name, ent_coef=ent_coef)
    begin_task(model, 0)
    model.learn(30)
    assert float(model.log_ent_coef.detach().exp()) != pytest.approx(initial)
    begin_task(model, 1)
    assert float(model.log_ent_coef.detach().exp()) == pytest.approx(initial)
    assert not model.ent_coef_optimizer.state
