"""`SparsePolicy`: the mixin that makes a policy of Stable-Baselines3 sparse.

Stable-Baselines3 builds a policy as ever: same parameters, same names, same random numbers. Then
its layers become sparse in place and an engine is attached to each of its optimizers, which moves
the topology as they step: nothing of the algorithm is changed or wrapped.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dstrl.policies import checkpoints
from dstrl.policies.deploy import inference_policy
from dstrl.policies.devices import FollowsDevice
from dstrl.policies.modes import QuickModes
from dstrl.policies.networks import floats
from dstrl.policies.roles import Roles, named
from dstrl.policies.targets import follow, follow_in_part
from dstrl.settings import MASKED_RULES, Settings
from sparse_core import Engine, sparsify
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.optim import use_kernels

TRAINED_BY = {
    "actor": "SAC, TD3, DDPG, TQC and CrossQ",
    "actor_target": "TD3 and DDPG",
    "critic_target": "SAC, TD3, DDPG and TQC",
    "q_net": "DQN",
    "quantile_net": "QR-DQN",
}
"""Network of a policy -> the algorithms that look for it as soon as they have made the policy."""


class WrongPolicyError(InputError, AttributeError):
    """A policy was given to an algorithm that is not its own, and lacks what that one trains."""


@dataclass(frozen=True)
class Part:
    """A network of a policy that has an engine of its own.

    Attributes:
        name: `policy`, `actor`, `critic` or `q_net`.
        root: The network.
        optimizer: The optimizer of its parameters.
        roles: What its layers are, see `dstrl.policies.roles`.
        config: How sparse it is.
        target: The target network that follows it.
        shared: Name of a submodule that belongs to another part.
        partial_target: A network with copies of some of its layers, which follow.
        also: Optimizers that train some of its layers too.
    """

    name: str
    root: nn.Module
    optimizer: Optimizer
    roles: Roles
    config: SparseConfig
    target: nn.Module | None = None
    shared: str | None = None
    partial_target: nn.Module | None = None
    also: tuple[Optimizer, ...] = ()


class SparsePolicy(QuickModes, FollowsDevice):
    """Mixin that makes a policy of Stable-Baselines3 sparse: put it before the policy's class.

        class MyPolicy(SparsePolicy, ActorCriticPolicy):
            def sparse_parts(self): ...
            def act(self, observations): ...
            def run_networks(self, observations, actions): ...

    Args:
        sparse: A `SparseConfig`, or its fields as a mapping, in which `actor_sparsity`,
            `critic_sparsity`, `actor_method`, `critic_method`, `target` and `batch` may stand
            too, and whose `backend` is `auto` by default. None: the defaults.

    Unless an `optimizer_class` is given, the optimizers are those of `sparse_core.optim`: torch's
    Adam, with a kernel for its steps.

    Attributes:
        sparse: The settings in force.
        target_rule: How target networks follow unless `target` says otherwise, see
            `dstrl.policies.targets`.
        typical_batch: Samples of a training batch unless `batch` says otherwise.
        acts_per_sample: Observations that it acts on, one by one, for each that it trains on, as
            far as `auto` has to count them.
        sparse_apart: `apart` of `sparsify`, for tasks that have disjoint masks.
    """

    target_rule = "online"
    typical_batch = 256
    acts_per_sample = 0.0
    sparse_apart: tuple[str, ...] | None = None

    def __init__(
        self,
        *args: Any,
        sparse: Settings | SparseConfig | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        settings = Settings.read(sparse)
        super().__init__(*args, **kwargs)
        assert isinstance(self, nn.Module)
        self._chose_optimizer = "optimizer_class" in kwargs
        self.sparse = settings
        self._roots: dict[str, nn.Module] = {}
        for part in self.sparse_parts():
            self._make_sparse(part)
        floats(self)
        self.register_buffer("sparse_settings", checkpoints.written(settings))
        self.register_buffer("sparse_seed", _digits(settings.actor.seed))
        for hook in (_restore_seed, _enforce):
            self.register_load_state_dict_post_hook(hook)  # type: ignore[no-untyped-call]

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__.get("_modules", {}).get(name)
        if module is not None:  # what acting asks for, again and again
            return module
        try:
            return super().__getattr__(name)  # type: ignore[misc]
        except AttributeError:
            if name not in TRAINED_BY:
                raise
        raise WrongPolicyError(
            f"policy={type(self).__name__}: has no {name!r}, needed by {TRAINED_BY[name]}; give "
            "each algorithm its own sparse policy, 'SparseMlpPolicy' after dstrl.register()"
        )

    def sparse_parts(self) -> list[Part]:
        """List the networks to make sparse."""
        raise NotImplementedError

    def act(self, observations: Any) -> None:
        """Compute what acting on a batch of observations takes; nothing is drawn."""
        raise NotImplementedError

    def run_networks(self, observations: Any, actions: Tensor) -> None:
        """Compute all networks that are trained, on a batch; nothing is drawn."""
        raise NotImplementedError

    @property
    def sparse_engines(self) -> dict[str, Engine]:
        """The engine of each network by name."""
        return {name: root.sparse_engine for name, root in self._roots.items()}  # type: ignore[misc]

    def condense(self, batch: int = 1) -> Any:
        """Return a copy for inference, which predicts the same actions.

        Args:
            batch: Observations that it will be given at once.
        """
        return inference_policy(self, batch)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load a state, all of it or nothing.

        Raises:
            RuntimeError: If it does not fit. The policy is as before then.
            InputError: If the budgets of its layers are others. The policy is as before then.
        """
        assert isinstance(self, nn.Module)
        before = {key: value.clone() for key, value in self.state_dict().items()}
        strict = kwargs.get("strict", args[0] if args else True)
        backends = {engine.config.backend for engine in self.sparse_engines.values()}
        checkpoints.check(before, state_dict, same_backends=strict and "auto" not in backends)
        try:
            return super().load_state_dict(state_dict, *args, **kwargs)  # type: ignore[misc]
        except (RuntimeError, InputError):
            super().load_state_dict(before)  # type: ignore[misc]
            raise

    def load_from_vector(self, vector: Any) -> None:
        """Load all parameters from a vector; what it has for inactive weights does not count."""
        super().load_from_vector(torch.as_tensor(vector).clone())  # type: ignore[misc]
        _enforce(self)

    def _make_sparse(self, part: Part) -> None:
        config, rule = part.config, self.sparse.target or self.target_rule
        if config.backend == "auto" and rule in MASKED_RULES:
            config = dataclasses.replace(config, backend="masked")
        with _without(part.root, part.shared):
            roles = named(part.root, part.roles)
            batch = self.sparse.batch or self.typical_batch
            engine = sparsify(
                part.root,
                config,
                roles=roles,
                batch=batch,
                acts=batch * self.acts_per_sample,
                apart=self.sparse_apart,
            )
        if engine.tensors and not self._chose_optimizer:
            for optimizer in (part.optimizer, *part.also):
                use_kernels(optimizer)
        engine.attach(part.optimizer, *part.also)
        if part.target is not None:
            follow(engine, part.root, part.target, rule)
        if part.partial_target is not None:
            follow_in_part(engine, part.partial_target, rule)
        self._roots[part.name] = part.root

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data: dict[str, Any] = super()._get_constructor_parameters()  # type: ignore[misc]
        backends = {engine.config.backend for engine in self.sparse_engines.values()}
        return data | {"sparse": self.sparse.masked() if backends == {"masked"} else self.sparse}


@contextlib.contextmanager
def _without(root: nn.Module, name: str | None) -> Iterator[None]:
    """Take a submodule out for a while."""
    kept = dict(root._modules)
    if name is not None:
        del root._modules[name]
    try:
        yield
    finally:
        root._modules.clear()
        root._modules.update(kept)


def _digits(seed: int) -> Tensor:
    """Write a seed as `(8,) float32` base-256 digits, which no cast of the policy can round."""
    return torch.tensor([(seed >> (8 * place)) & 255 for place in range(8)], dtype=torch.float32)


def _restore_seed(policy: Any, incompatible_keys: object) -> None:
    """Go on with the random streams of the policy whose state was just loaded."""
    digits = policy.sparse_seed.double().round().long().tolist()
    seed = sum(digit << (8 * place) for place, digit in enumerate(digits))
    policy.sparse = policy.sparse.with_seed(seed)
    for engine in policy.sparse_engines.values():
        engine.config = dataclasses.replace(engine.config, seed=seed)


def _enforce(policy: Any, incompatible_keys: object = None) -> None:
    """Zero inactive weights, those of targets too, after weights were written from outside."""
    for engine in policy.sparse_engines.values():
        engine.enforce()
