"""The baseline `tiny`: a dense network with as many weights as the sparse one has active ones.

    arch = tiny_arch(SparseSACPolicy, env.observation_space, env.action_space, dict(sparsity=0.9))
    SAC("MlpPolicy", env, policy_kwargs=dict(net_arch=arch))

All hidden layers shrink by the same factor, to the widest network that does not exceed the budget;
then each, from the first on, gets the neurons for which there is still room. Weights of all layers
count, those that stay dense too, and biases do not. Methods whose sparsity moves have the budget of
their end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces

from dstrl.policies.mixin import SparsePolicy
from dstrl.settings import Settings
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig

Arch = list[int] | dict[str, list[int]]


def tiny_arch(
    policy: type[SparsePolicy],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    sparse: Settings | SparseConfig | Mapping[str, Any] | None = None,
    **policy_kwargs: Any,
) -> Arch:
    """Return the hidden layers of a dense policy with no more weights than a sparse one has active.

    Nothing is drawn from torch's global random stream.

    Args:
        policy: The sparse policy.
        observation_space: Of the environment.
        action_space: Of the environment.
        sparse: How sparse it would be, as the policy takes it.
        policy_kwargs: Its other arguments, `net_arch` among them.

    Raises:
        InputError: If even one neuron a layer is too much.
    """

    def build(how: Settings, **changed: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            spaces_and_rate = (observation_space, action_space, lambda progress: 0.0)
            return policy(*spaces_and_rate, **policy_kwargs | changed, sparse=how)

    settings = Settings.read(sparse).static()
    full, dense = build(settings), settings.dense()
    return widest_within(
        full.net_arch,
        lambda arch: _active_weights(build(dense, net_arch=arch)),
        _active_weights(full),
    )


def widest_within(arch: Arch, weights: Callable[[Arch], int], budget: int) -> Arch:
    """Return the widest architecture, of about the shape of another, within a budget of weights.

    Args:
        arch: Widths of the hidden layers, as Stable-Baselines3 takes them.
        weights: Counts the weights of the networks with a given architecture.
        budget: How many there may be.

    Raises:
        InputError: If even one neuron a layer is too much.
    """
    widest = max(_widths(arch), default=0)
    if widest == 0 or weights(_shrink(arch, 1, widest)) > budget:
        raise InputError(
            f"net_arch={arch}: no dense network of this shape has at most {budget} weights, "
            "lower the sparsity",
            field="net_arch",
        )
    low, high = 1, widest
    while low < high:
        middle = (low + high + 1) // 2
        if weights(_shrink(arch, middle, widest)) <= budget:
            low = middle
        else:
            high = middle - 1
    return _fill(_shrink(arch, low, widest), weights, budget)


def _fill(arch: Arch, weights: Callable[[Arch], int], budget: int) -> Arch:
    """Add neurons to one layer after the other as long as the weights stay within the budget."""
    filled: Arch = dict(arch) if isinstance(arch, dict) else list(arch)
    for part, index in _places(arch):
        while weights(wider := _widened(filled, part, index)) <= budget:
            filled = wider
    return filled


def _places(arch: Arch) -> list[tuple[str | None, int]]:
    """Name each hidden layer by its part, None where there is one only, and its number."""
    if isinstance(arch, dict):
        return [(part, index) for part, widths in arch.items() for index in range(len(widths))]
    return [(None, index) for index in range(len(arch))]


def _widened(arch: Arch, part: str | None, index: int) -> Arch:
    if isinstance(arch, dict):
        assert part is not None
        return arch | {part: _one_more(arch[part], index)}
    return _one_more(arch, index)


def _one_more(widths: list[int], index: int) -> list[int]:
    return [width + (index == place) for place, width in enumerate(widths)]


def _active_weights(policy: SparsePolicy) -> int:
    engines = policy.sparse_engines.values()
    return sum(layer.active for engine in engines for layer in engine.layers())


def _shrink(arch: Arch, numerator: int, denominator: int) -> Arch:
    def smaller(widths: list[int]) -> list[int]:
        return [max(1, width * numerator // denominator) for width in widths]

    if isinstance(arch, dict):
        return {name: smaller(widths) for name, widths in arch.items()}
    return smaller(arch)


def _widths(arch: Arch) -> Sequence[int]:
    if isinstance(arch, dict):
        return [width for part in arch.values() for width in part]
    return arch
