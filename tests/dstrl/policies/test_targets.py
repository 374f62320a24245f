"""Target networks: their topology after Polyak and hard updates, under each rule."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import polyak_update

import dstrl


def build(algorithm, rule, method="rigl", **policy_kwargs):
    dstrl.register()
    sparse = dict(method=method, sparsity=0.8, update_every=2, drop_fraction=0.5, target=rule)
    return algorithm(
        "SparseMlpPolicy",
        "CartPole-v1" if algorithm is DQN else "Pendulum-v1",
        policy_kwargs=dict(sparse=sparse, net_arch=[16, 16]) | policy_kwargs,
        seed=0,
        device="cpu",
    ).policy


def pairs(policy):
    if hasattr(policy, "q_net"):
        return [("q_net", policy.q_net, policy.q_net_target)]
    found = [("critic", policy.critic, policy.critic_target)]
    if hasattr(policy, "actor_target"):
        found.append(("actor", policy.actor, policy.actor_target))
    return found


def step(policy, engine):
    generator = torch.Generator().manual_seed(engine.steps)
    engine.optimizer.zero_grad()
    loss = sum(
        (layer(torch.randn(8, layer.in_features, generator=generator)) ** 3).mean()
        for layer in engine.root.modules()
        if isinstance(layer, torch.nn.Linear)
    )
    loss.backward()
    engine.optimizer.step()


def supports(net, engine):
    parameters = dict(net.named_parameters())
    return {tensor.name: parameters[tensor.name] != 0 for tensor in engine.tensors}


@pytest.mark.parametrize("rule", ["online", "density", "union"])
@pytest.mark.parametrize("algorithm", [SAC, TD3, DQN])
def test_a_target_begins_as_the_online_network(algorithm, rule):
    policy = build(algorithm, rule)
    for name, online, target in pairs(policy):
        inputs = dict(target.named_parameters())
        assert all(torch.equal(p, inputs[n]) for n, p in online.named_parameters())
        assert supports(target, policy.sparse_engines[name])


@pytest.mark.parametrize("tau", [0.005, 1.0])
@pytest.mark.parametrize("algorithm", [SAC, TD3, DQN])
def test_online_targets_have_the_online_topology_at_every_moment(algorithm, tau):
    policy = build(algorithm, "online")
    for name, online, target in pairs(policy):
        engine = policy.sparse_engines[name]
        for _ in range(7):
            step(policy, engine)
            assert _same(target, online)
            polyak_update(online.parameters(), target.parameters(), tau)
            assert _same(target, online)
        assert engine.updates == 3


def _same(target, online):
    masks = {n: b for n, b in online.named_buffers() if n.endswith("weight_mask")}
    theirs = {n: b for n, b in target.named_buffers() if n.endswith("weight_mask")}
    weights = dict(target.named_parameters())
    inside = all(not weights[n.removesuffix("_mask")][mask == 0].any() for n, mask in masks.items())
    return (
        inside
        and masks.keys() == theirs.keys()
        and all(torch.equal(masks[n], theirs[n]) for n in masks)
    )


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_density_targets_hold_as_many_weights_as_online_and_drop_their_smallest(algorithm):
    policy = build(algorithm, "density")
    for name, online, target in pairs(policy):
        engine = policy.sparse_engines[name]
        for _ in range(4):
            step(policy, engine)
        polyak_update(online.parameters(), target.parameters(), 0.005)
        before = {t.name: target.get_parameter(t.name).clone() for t in engine.tensors}
        use(target)
        differs = False
        for tensor in engine.tensors:
            after = target.get_parameter(tensor.name)
            assert int(after.count_nonzero()) == tensor.count()
            kept = after != 0
            assert torch.equal(after[kept], before[tensor.name][kept])
            gone = before[tensor.name][~kept].abs()
            assert (gone <= after[kept].abs().min()).all()
            differs |= not torch.equal(kept, tensor.mask != 0)
        assert differs


def use(net):
    observation = torch.zeros(1, 3)
    with torch.no_grad():
        return net(observation) if not hasattr(net, "qf0") else net(observation, torch.zeros(1, 1))


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_union_targets_forget_dropped_weights_slowly(algorithm):
    policy = build(algorithm, "union")
    name, online, target = pairs(policy)[0]
    engine = policy.sparse_engines[name]
    old = supports(online, engine)
    for _ in range(2):
        step(policy, engine)
        polyak_update(online.parameters(), target.parameters(), 0.25)
    now = supports(online, engine)
    assert any((old[n] & ~now[n]).any() for n in now)
    averaged = supports(target, engine)
    assert all(torch.equal(averaged[n], old[n] | now[n]) for n in now)


def test_dqn_copies_the_online_network_and_then_stands_still():
    policy = build(DQN, None)
    (engine,) = policy.sparse_engines.values()
    frozen = {n: p.clone() for n, p in policy.q_net_target.named_parameters()}
    for _ in range(4):
        step(policy, engine)
    assert engine.updates == 2
    for name, parameter in policy.q_net_target.named_parameters():
        assert torch.equal(parameter, frozen[name])
    polyak_update(policy.q_net.parameters(), policy.q_net_target.parameters(), 1.0)
    observation = torch.randn(5, 4)
    assert torch.equal(policy.q_net_target(observation), policy.q_net(observation))


def test_weights_that_live_on_while_inactive_need_a_rule_with_masks():
    policy = build(DQN, None, method="topkast")
    assert (policy.q_net_target.q_net[2].weight_mask == 0).any()
    with pytest.raises(
        ValueError, match=r"^target='union': method 'topkast' needs 'online' or 'copy'"
    ):
        build(DQN, "union", method="topkast")


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_a_shared_features_extractor_belongs_to_the_actor(algorithm):
    extractor = {"features_extractor_class": Encoder, "share_features_extractor": True}
    policy = build(algorithm, "online", **extractor)
    engines = policy.sparse_engines
    of_actor = [t.name for t in engines["actor"].tensors]
    of_critic = [t.name for t in engines["critic"].tensors]
    assert "features_extractor.net.weight" in of_actor
    assert "features_extractor.net.weight" not in of_critic
    assert policy.critic.features_extractor is policy.actor.features_extractor
    critic_input = next(x for x in engines["critic"].layers() if x.name == "qf0.0.weight")
    assert critic_input.role == "hidden"
    assert torch.equal(
        policy.critic_target.features_extractor.net.weight,
        policy.critic.features_extractor.net.weight,
    )
    for engine in engines.values():
        step(policy, engine)


class Encoder(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 12)
        self.net = torch.nn.Linear(space.shape[0], 12)

    def forward(self, observations):
        return torch.relu(self.net(observations))
