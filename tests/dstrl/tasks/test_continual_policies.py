"""Policies for tasks in sequence: finished tasks never change, budgets are exact, all is saved."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO

from dstrl.tasks.policies import ContinualActorCriticPolicy
from dstrl.tasks.switching import begin_task
from dstrl.watching.callbacks import SparseCallback
from envs import CartPoleTask
from sparse_core.budgets.distributions import budgets

SPARSE = {"method": "rigl", "sparsity": 0.8, "update_every": 3, "seed": 5}
OBSERVATIONS = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)


def ppo(sparse=SPARSE, algorithm=PPO, seed=1, **for_policy):
    hyper = {"n_steps": 32} | ({"batch_size": 16, "n_epochs": 2} if algorithm is PPO else {})
    return algorithm(
        ContinualActorCriticPolicy,
        CartPoleTask().make(),
        policy_kwargs={"sparse": sparse, "net_arch": [16, 16]} | for_policy,
        seed=seed,
        device="cpu",
        **hyper,
    )


def answers(model):
    """Everything that the networks say about fixed observations."""
    policy = model.policy
    seen = torch.from_numpy(OBSERVATIONS)
    with torch.no_grad():
        return [policy.get_distribution(seen).distribution.logits, policy.predict_values(seen)]


def of_task(model, label):
    with model.policy.task(label):
        return answers(model)


def same(one, other):
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a.view(torch.int32), b.view(torch.int32)) for a, b in pairs)


def test_as_many_tasks_fit_as_the_sparsity_says():
    # 64 and 256 weights in each of two trunks, of which a sixth is 10.7 and 42.7: rounded down; the
    # heads, 32 and 16 weights, have what is left of 688 / 6 = 114.7.
    sparse = {"method": "static", "sparsity": 5 / 6, "distribution": "uniform"}
    policy = ppo(sparse).policy
    counts = [tensor.budget for tensor in policy.sparse_engines["policy"].tensors]
    assert counts == [10, 42, 10, 42, 7, 4] and sum(counts) == 115
    assert policy.room() == 6
    for label in range(6):
        policy.begin_task(label)
        policy.end_task()
    reuse = ppo(sparse, share="reuse").policy.sparse_engines["policy"].tensors
    assert [tensor.budget for tensor in reuse] == [11, 43, 11, 43, 5, 2]


MODELS = {
    "ppo": (ppo, 96),
    "ppo, reuse": (lambda: ppo(share="reuse"), 96),
    "ppo, srigl": (lambda: ppo(SPARSE | {"method": "srigl", "min_fan_in": 1}), 96),
    "ppo, split": (lambda: ppo(SPARSE | {"critic_sparsity": 0.9}), 96),
    "ppo, decay": (
        lambda: ppo(optimizer_class=torch.optim.AdamW, optimizer_kwargs={"weight_decay": 0.1}),
        96,
    ),
    "a2c": (lambda: ppo(algorithm=A2C), 128),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_finished_tasks_answer_never_changes_to_the_bit(name):
    make, steps = MODELS[name]
    model = make()
    kept = {}
    for label in range(3):
        begin_task(model, label)
        before = answers(model)
        model.learn(steps)
        assert not same(before, answers(model)), "nothing was learnt"
        model.policy.end_task()
        kept[label] = answers(model)
        assert same(kept[label], of_task(model, label))
        for earlier in range(label):
            assert same(kept[earlier], of_task(model, earlier))
        assert same(kept[label], answers(model)), "looking at tasks left a trace"
    assert any(engine.updates > 0 for engine in model.policy.sparse_engines.values())


@pytest.mark.parametrize("share", ["none", "reuse"])
def test_what_others_write_over_weights_of_finished_tasks_is_neither_read_nor_kept(share):
    """Not every optimizer that holds the trunk has to be one that an engine watches."""
    model = ppo(share=share)
    kept = {}
    for label in range(2):
        begin_task(model, label)
        model.learn(64)
        with torch.no_grad():
            for tensor in model.policy._trunk.values():
                if tensor.protected is not None:
                    tensor.weight[tensor.protected] += 1
        before = answers(model)
        model.policy.end_task()
        kept[label] = of_task(model, label)
        assert same(kept[label], before)
        assert same(kept[0], of_task(model, 0))
    state = copy.deepcopy(model.policy.state_dict())
    fresh = ppo(share=share)
    fresh.policy.load_state_dict(state)
    assert all(same(kept[label], of_task(fresh, label)) for label in kept)


@pytest.mark.parametrize("share", ["none", "reuse"])
def test_each_task_has_exactly_the_budget_of_each_layer(share):
    model = ppo(share=share)
    engine = model.policy.sparse_engines["policy"]
    expected = budgets(engine.selected, engine.config, engine.tensors[0].structure)
    union = {}
    for label in range(3):
        begin_task(model, label)
        model.learn(64)
        model.policy.end_task()
        for name, mask in model.policy.task_masks(label).items():
            assert int(mask.sum()) == expected[name.removeprefix("policy.")]
            union.setdefault(name, []).append(mask)
    trunk = {n: masks for n, masks in union.items() if "_net.weight" not in n}
    overlaps = [int(torch.stack(masks).sum(0).max()) for masks in trunk.values()]
    assert (max(overlaps) == 1) == (share == "none")
    for name, held in model.policy.capacity().items():
        assert held == pytest.approx(float(torch.stack(union[name]).any(0).float().mean()))


def test_every_task_starts_from_the_same_heads_and_other_trunks():
    model = ppo()
    policy = model.policy
    heads, trunks = [], []
    for label in range(2):
        policy.begin_task(label)
        heads.append((policy.action_net.weight * policy.action_net.weight_mask).detach().clone())
        trunks.append(policy.mlp_extractor.policy_net[0].weight_mask.clone())
        model.learn(32)
        policy.end_task()
        assert not torch.equal(policy.action_net.weight, heads[-1])
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(trunks[0], trunks[1])


def test_without_isolation_only_heads_are_apart():
    model = ppo(isolation="none")
    trunk = model.policy.mlp_extractor.policy_net[2]
    for label in range(2):
        begin_task(model, label)
        before = trunk.weight.detach().clone()
        model.learn(64)
        model.policy.end_task()
        assert not torch.equal(trunk.weight, before)
        if label == 0:
            first, head = of_task(model, 0), model.policy.action_net.weight.detach().clone()
    with model.policy.task(0):
        assert torch.equal(model.policy.action_net.weight, head)
    assert not same(first, of_task(model, 0))


def test_a_switch_resets_what_belonged_to_the_task_before():
    model = ppo()
    begin_task(model, 0)
    model.learn(40)
    engine = model.policy.sparse_engines["policy"]
    assert engine.optimizer.state
    begin_task(model, 1)
    assert not engine.optimizer.state
    assert engine.phase == 0 and engine.steps > 0
    assert model.rollout_buffer.pos == 0 and not model.rollout_buffer.full


def test_the_schedule_of_each_task_is_as_long_as_its_training():
    model = ppo()
    engine = model.policy.sparse_engines["policy"]
    for label in range(2):
        begin_task(model, label)
        model.learn(64, callback=SparseCallback())
        # 2 rollouts, 2 epochs of 2 batches each
        assert engine.horizon == engine.phase == 8
    assert engine.steps == 16


def test_tasks_are_saved_and_training_goes_on_from_there(tmp_path):
    model = ppo()
    for label in (4, 2):
        begin_task(model, label)
        model.learn(64)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=CartPoleTask().make(), device="cpu")
    assert loaded.policy.finished_tasks == [4] and loaded.policy.training_task == 2
    assert same(of_task(model, 4), of_task(loaded, 4)) and same(answers(model), answers(loaded))
    kept = of_task(model, 4)
    for one in (model, loaded):
        one.policy.end_task()
        one.policy.begin_task(0)
        one.set_random_seed(7)
        one.learn(64)
    assert same(kept, of_task(loaded, 4))
    assert same(answers(model), answers(loaded))


def test_a_copy_is_a_policy_of_its_own():
    model = ppo()
    begin_task(model, 0)
    model.policy.end_task()
    copied = copy.deepcopy(model.policy)
    model.policy.begin_task(1)
    assert copied.training_task is None and copied.finished_tasks == [0]
    copied.begin_task(1)
    assert copied.training_task == 1


def test_a_task_that_does_not_fit_changes_nothing():
    model = ppo(SPARSE | {"sparsity": 0.4, "distribution": "uniform"})
    begin_task(model, 0)
    model.policy.end_task()
    before = copy.deepcopy(model.policy.state_dict())
    with pytest.raises(ValueError, match=r"task 1 does not fit: layer .* is full") as caught:
        model.policy.begin_task(1)
    assert "\n" not in str(caught.value)
    after = model.policy.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_other_policies_have_no_tasks():
    model = PPO("MlpPolicy", CartPoleTask().make(), n_steps=32, batch_size=16, device="cpu")
    with pytest.raises(ValueError, match="policy=ActorCriticPolicy: tasks in sequence need one of"):
        begin_task(model, 0)


def test_wrong_orders_are_refused():
    model = ppo()
    policy = model.policy
    with pytest.raises(RuntimeError, match="no task is in training: call begin_task before learn"):
        model.learn(32)
    with pytest.raises(RuntimeError, match="no task is in training: begin one first"):
        policy.end_task()
    policy.begin_task(0)
    with pytest.raises(RuntimeError, match="task 0 is still in training"):
        policy.begin_task(1)
    policy.end_task()
    with pytest.raises(ValueError, match="label=0: was trained already; tasks so far: 0"):
        policy.begin_task(0)
    with pytest.raises(ValueError, match="label=3: was never trained; tasks so far: 0"):
        with policy.task(3):
            pass
    policy.begin_task(1)
    with policy.task(0):
        for forbidden in (
            lambda: model.learn(32),
            lambda: policy.begin_task(2),
            policy.end_task,
            policy.state_dict,
        ):
            with pytest.raises(RuntimeError, match=r"leave `with policy.task\(0\)` first"):
                forbidden()


@pytest.mark.parametrize(
    ("sparse", "for_policy", "message"),
    [
        (SPARSE, {"isolation": "soft"}, "isolation='soft': must be one of hard, none"),
        (SPARSE, {"share": "all"}, "share='all': must be one of none, reuse"),
        (SPARSE | {"tiny": True}, {}, "sparse='tiny': unknown key"),
        (SPARSE | {"backend": "condensed"}, {}, "backend='condensed': tasks in sequence"),
        ({"method": "topkast"}, {}, "method='topkast': writes weights outside its masks"),
        ({"method": "gmp"}, {}, "method='gmp': writes weights outside its masks"),
        ({"method": "dense", "sparsity": 0.0}, {}, "method='dense': leaves no room"),
        (SPARSE | {"target": "union"}, {}, "target='union': targets start anew"),
    ],
)
def test_what_cannot_be_kept_apart_is_refused(sparse, for_policy, message):
    with pytest.raises(ValueError, match=message):
        ppo(sparse, **for_policy)
