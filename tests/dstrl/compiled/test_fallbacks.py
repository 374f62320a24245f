"""What the compiled step does not know it leaves to Stable-Baselines3, and says so once."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

import dstrl
from dstrl.policies.networks import SparseSACActor
from sparse_core.layers.condensed import CondensedLinear
from tests.dstrl.compiled.lab import Still, agent, fill, step, twin_of, worst


class OwnActor(SparseSACActor):
    """An actor that computes something else."""

    def get_action_dist_params(self, obs):
        mean, log_std, kwargs = super().get_action_dist_params(obs)
        return mean * 0.5, log_std, kwargs


class OwnPolicy(dstrl.SparseSACPolicy):
    """The policy of that actor."""

    def make_actor(self, features_extractor=None):
        return OwnActor(**self._update_features_extractor(self.actor_kwargs, features_extractor))


def hook_layer(model):
    layer = next(m for m in model.critic.modules() if isinstance(m, CondensedLinear))
    layer.register_forward_hook(lambda *arguments: None)


def hook_optimizer(model):
    model.actor.optimizer.register_step_post_hook(lambda *arguments: None)


def hook_network(model):
    model.critic_target.register_forward_hook(lambda *arguments: None)


def wrap_step(model):
    optimizer = model.actor.optimizer
    optimizer.step = optimizer.step


def freeze(model):
    model.actor.mu.bias.requires_grad_(False)


def second_group(model):
    model.actor.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


def replace_module(model):
    model.actor.latent_pi[1] = nn.Mish()


def detach(model):
    model.policy.sparse_engines["actor"].detach()


WHOLE = {
    "state-dependent exploration": ({"use_sde": True}, "exploration depends on the state"),
    "an update interval": ({"target_update_interval": 2}, "target_update_interval is 2"),
    "an optimizer": (
        {"kwargs": {"optimizer_class": torch.optim.Adamax}},
        "Adamax is an optimizer without a kernel",
    ),
    "an activation": (
        {"kwargs": {"activation_fn": nn.Mish}},
        r"critic.qf0.1 is a Mish",
    ),
    "a target's rule": ({"sparse": {"target": "union", "backend": "masked"}}, "'union'"),
    "a method": (
        {"sparse": {"method": "topkast", "backend": "masked"}},
        "method 'topkast' changes gradients",
    ),
    "momentum": (
        {"sparse": {"method": "snfs", "backend": "masked"}},
        "method 'snfs' looks at every step",
    ),
    "a large dense layer": (
        {"arch": (64, 300, 300), "sparse": {"backend": "masked"}},
        "is masked and has 90000 weights, more than 32768",
    ),
    "a shared extractor": (
        {"kwargs": {"share_features_extractor": True}, "sparse": {"backend": "masked"}},
        "two optimizers train one layer",
    ),
}

LATER = {
    hook_layer: "critic.qf0.0 has hooks",
    hook_optimizer: "Adam has hooks",
    hook_network: "critic_target has hooks|SparseCritic has hooks",
    wrap_step: "the step of Adam is wrapped",
    freeze: "some parameters are frozen",
    second_group: "Adam has several groups of parameters",
    replace_module: "actor.latent_pi.1 is a Mish|actor.latent_pi has other modules",
    detach: "actor: an engine is detached",
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_run_is_stable_baselines3s(case):
    options, reason = WHOLE[case]
    model = agent(**options)
    twin = twin_of(model, **options)
    condensed = any(isinstance(m, CondensedLinear) for m in model.policy.modules())
    for seed in range(3):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            mine, _ = step(model, 8, seed)
        said = [str(w.message) for w in told if "own steps" in str(w.message)]
        assert len(said) == (condensed and seed == 1)
        theirs, _ = step(twin, 8, seed)
        assert mine == theirs
    assert re.search(reason, model.uncompiled)
    assert worst(model, twin)[0] == 0


@pytest.mark.parametrize("change", LATER, ids=lambda change: change.__name__)
@pytest.mark.parametrize("steps", [0, 3])
def test_what_changes_before_or_during_a_run_is_seen(change, steps):
    model = agent()
    step(model, 8, steps=steps)
    change(model)
    with pytest.warns(UserWarning, match="^SAC: trains by Stable-Baselines3's own steps, since "):
        step(model, 8, steps=3)
    assert re.search(LATER[change], model.uncompiled)


def test_an_actor_of_ones_own_is_computed_as_it_is():
    options = {"net_arch": [64], "sparse": {"backend": "condensed"}}
    model = dstrl.SAC(OwnPolicy, Still(), policy_kwargs=options, buffer_size=100)
    fill(model.replay_buffer)
    model.set_logger(Logger(None, []))
    with pytest.warns(UserWarning, match="own steps, since actor has a method"):
        step(model, 8, steps=2)
    assert model.uncompiled == "actor has a method 'get_action_dist_params' of its own"


def test_neurons_that_are_watched_when_a_program_is_made_are_no_reason_to_leave():
    model = agent(sparse={"method": "static", "reset_dormant_every": 2})
    twin = twin_of(model, sparse={"method": "static", "reset_dormant_every": 2})
    for seed in range(4):
        step(model, 8, seed)
        step(twin, 8, seed)
    assert model.uncompiled is None and model._program is not None
    assert worst(model, twin)[0] < 1e-4


@pytest.mark.parametrize("state", ["keep", "freeze"])
def test_moments_of_inactive_weights_are_for_the_optimizers_hooks(state):
    model = agent(sparse={"backend": "masked", "optimizer_state": state})
    for seed in range(3):
        step(model, 8, seed)
    assert f"optimizer_state '{state}' looks at every step" in model.uncompiled
