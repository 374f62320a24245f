"""The tiny baseline: dense, and within the number of weights of the sparse networks."""

from __future__ import annotations

import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC

import dstrl
from dstrl.policies.names import policies
from dstrl.policies.tiny import tiny_arch
from dstrl.runs.build import build as build_run
from dstrl.runs.spec import RLSpec
from sparse_core.config import SparseConfig
from sweeps.language.spec import run_id


def weights(model):
    engines = model.policy.sparse_engines.values()
    return sum(layer.active for engine in engines for layer in engine.layers())


def build(algorithm, sparse, **policy_kwargs):
    dstrl.register()
    env = "Pendulum-v1" if algorithm is SAC else "CartPole-v1"
    policy_kwargs |= {"sparse": sparse}
    return algorithm("SparseMlpPolicy", env, policy_kwargs=policy_kwargs, seed=1, device="cpu")


def tiny(algorithm, sparse, **policy_kwargs):
    model = build(algorithm, dict(method="dense"))
    policy = policies()[algorithm]["SparseMlpPolicy"]
    spaces = model.observation_space, model.action_space
    return tiny_arch(policy, *spaces, sparse, **policy_kwargs)


@pytest.mark.parametrize(
    ("algorithm", "arch"),
    [(PPO, None), (PPO, dict(pi=[64, 32], vf=[128])), (DQN, [64, 64]), (SAC, [64, 64])],
)
def test_a_tiny_policy_is_dense_and_has_almost_the_sparse_number_of_weights(algorithm, arch):
    arch = {} if arch is None else {"net_arch": arch}
    sparse = dict(method="rigl", sparsity=0.8)
    budget = weights(build(algorithm, sparse, **arch))
    model = build(algorithm, dict(method="dense"), net_arch=tiny(algorithm, sparse, **arch))
    assert 0.97 * budget < weights(model) <= budget


def test_a_tiny_residual_policy_has_blocks_of_one_width():
    sparse = dict(method="rigl", sparsity=0.9)
    arch = dict(net_arch=dict(pi=[32], qf=[64, 64]), block="simba")
    policy = policies()[SAC]["SparseSimbaPolicy"]
    dense = SAC(
        "SparseSimbaPolicy", "Pendulum-v1", policy_kwargs=arch | {"sparse": {"method": "dense"}}
    )
    # One block of the actor: 3 h + 8 h h and two heads; two critics, two blocks: 4 h + 16 h h + h.
    assert weights(dense) == 8 * 32**2 + 5 * 32 + 2 * (16 * 64**2 + 5 * 64)
    spaces = dense.observation_space, dense.action_space
    found = tiny_arch(policy, *spaces, sparse, **arch)
    budget = round(0.1 * weights(dense))
    sizes = {h: 8 * h**2 + 5 * h for h in range(40)}
    (actor,), (critic, same) = found["pi"], found["qf"]
    assert critic == same and sizes[actor] + 2 * (16 * critic**2 + 5 * critic) <= budget < (
        sizes[actor + 1] + 2 * (16 * critic**2 + 5 * critic)
    )
    kwargs = arch | {"sparse": {"method": "dense"}, "net_arch": found}
    assert (
        0.97 * budget
        < weights(SAC("SparseSimbaPolicy", "Pendulum-v1", policy_kwargs=kwargs))
        <= budget
    )


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_run_with_residual_networks_can_be_tiny(algo):
    env = {"ppo": "CartPole-v1", "sac": "Pendulum-v1"}[algo]
    asked = dict(algo=algo, env=env, network="bro", net_arch=(64, 64))
    asked |= dict(sparse=SparseConfig(sparsity=0.8))
    budget = weights(build_run(RLSpec(**asked).resolve()))
    assert 0.9 * budget < weights(build_run(RLSpec(**asked, tiny=True).resolve())) <= budget


def test_it_has_the_very_number_of_weights_where_widths_allow():
    budget = weights(build(PPO, dict(method="srigl", sparsity=0.9), net_arch=[64, 64]))
    model = build(PPO, dict(method="dense"), net_arch=tiny(PPO, dict(sparsity=0.9)))
    assert budget == weights(model) == 890  # actor 4 * 19 + 19 * 18 + 18 * 2, critic 19 less


def test_dense_layers_count_and_methods_that_prune_have_the_budget_of_their_end():
    with_input = dict(method="rigl", sparsity=0.9, dense=["input"])
    assert weights(build(PPO, with_input)) == 512 + 838
    arch = tiny(PPO, with_input)
    assert 0.97 * 1350 < weights(build(PPO, dict(method="dense"), net_arch=arch)) <= 1350
    assert tiny(PPO, dict(method="gmp", sparsity=0.9)) == tiny(PPO, dict(sparsity=0.9))


def test_what_only_moves_the_topology_makes_no_other_run():
    def named(**sparse):
        spec = RLSpec.of(tiny=True, sparse=sparse)
        assert spec.in_force()["sparse.method"] == "tiny"
        return run_id("rl", spec)

    assert named(method="rigl", update_every=7) == named(method="static")
    assert named(method="srigl") == named(method="static", structure="constant_fan_in")
    assert named(method="rigl") != named(method="rigl", sparsity=0.8)
    assert named(method="rigl") != run_id("rl", RLSpec.of(sparse=dict(method="static")))


def test_a_run_can_be_tiny():
    spec = RLSpec(sparse=SparseConfig(sparsity=0.8), net_arch=(64, 64)).resolve()
    budget = weights(build_run(spec))
    model = build_run(RLSpec(sparse=spec.sparse, net_arch=(64, 64), tiny=True).resolve())
    assert 0.85 * budget < weights(model) <= budget
    assert model.policy.sparse.actor.method == "dense"
    assert not any("mask" in name for name in model.policy.state_dict())
    with pytest.raises(ValueError, match=r"^tiny=1: must be true or false$"):
        RLSpec(tiny=1)


def test_looking_for_it_draws_nothing():
    torch.manual_seed(3)
    drawn = torch.get_rng_state()
    model = build(PPO, dict(method="dense"))
    spaces = model.observation_space, model.action_space
    torch.manual_seed(3)
    tiny_arch(dstrl.SparseActorCriticPolicy, *spaces, dict(sparsity=0.8, seed=0))
    assert torch.equal(drawn, torch.get_rng_state())


def test_it_survives_saving(tmp_path):
    model = build_run(RLSpec(sparse=SparseConfig(sparsity=0.8), tiny=True).resolve())
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy")
    loaded = PPO.load(tmp_path / "model", device="cpu").policy
    alone = type(model.policy).load(tmp_path / "policy", device="cpu")
    for other in (loaded, alone):
        assert other.net_arch == model.policy.net_arch
        for left, right in zip(model.policy.parameters(), other.parameters(), strict=True):
            assert torch.equal(left, right)
