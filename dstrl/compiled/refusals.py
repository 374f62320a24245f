"""What a compiled step does not know of policies and algorithms, so that it refuses them."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn

from dstrl.compiled.observations import check_extractor
from dstrl.policies.actor_value import SparseActorAndValue
from dstrl.policies.mixin import SparsePolicy
from dstrl.policies.networks import SparseCritic
from dstrl.settings import MASKED_RULES
from sparse_core.plain_steps import PlainSteps
from sparse_core.step import CannotCompile

SAME = (SparseCritic.forward, SparseActorAndValue.evaluate_actions)
"""Methods of sparse networks that compute what those of Stable-Baselines3 do."""


def check_policy(model: Any) -> None:
    """Check what all algorithms have in common.

    Raises:
        CannotCompile: If there is something that no compiled step knows.
    """
    policy, space = model.policy, model.observation_space
    if not isinstance(policy, SparsePolicy):
        raise CannotCompile("the policy is not a sparse one")
    if getattr(model, "use_sde", False):
        raise CannotCompile("exploration depends on the state (use_sde)")
    if not isinstance(space, spaces.Box):
        raise CannotCompile(f"observations are {type(space).__name__}")
    if is_image_space(space):
        raise CannotCompile("observations are images")
    rule = policy.sparse.target or policy.target_rule
    if rule in MASKED_RULES:
        raise CannotCompile(f"target networks follow by {rule!r}")
    check_engines(policy)


def check_engines(policy: SparsePolicy) -> None:
    """Check that most steps move weights and nothing else.

    Raises:
        CannotCompile: If that is not so.
    """
    for name, engine in policy.sparse_engines.items():
        why = PlainSteps(engine).refusal()
        if why is not None:
            raise CannotCompile(f"{name}: {why}")


def check_network(
    network: nn.Module, name: str, original: type[nn.Module], methods: tuple[str, ...]
) -> None:
    """Check that a network of a policy computes what Stable-Baselines3's does.

    Args:
        network: An actor, a critic, a Q-network.
        name: Its name in the policy.
        original: Stable-Baselines3's class.
        methods: Those of its methods that a gradient step calls.

    Raises:
        CannotCompile: If it may compute something else.
    """
    for method in (*methods, "extract_features"):
        found = getattr(type(network), method)
        if found is not getattr(original, method) and found not in SAME:
            raise CannotCompile(f"{name} has a method {method!r} of its own")
    check_extractor(network.features_extractor, name)
    if has_hooks(network):
        raise CannotCompile(f"{name} has hooks")


def has_hooks(network: nn.Module) -> bool:
    """Whether a network has hooks other than those by which it takes the online topology."""
    if network._forward_hooks or network._backward_hooks or network._backward_pre_hooks:
        return True
    owners = [getattr(hook, "__self__", None) for hook in network._forward_pre_hooks.values()]
    return any(type(owner).__name__ != "Lagging" for owner in owners)
