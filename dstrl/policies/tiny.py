"""The `tiny` baseline: a dense network with as many weights as the sparse one has active ones.

All hidden layers shrink by the same factor, to the widest network that does not exceed the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sparse_core.checks import InputError

Arch = list[int] | dict[str, list[int]]


def tiny_arch(arch: Arch, weights: Callable[[Arch], int], budget: int) -> Arch:
    """Return the widest architecture whose weights are within a budget.

    Args:
        arch: Widths of the hidden layers, as Stable-Baselines3 takes them.
        weights: Counts the weights of the networks with a given architecture.
        budget: How many there may be.

    Raises:
        ValueError: If even one neuron a layer is too much.
    """
    widest = max(_widths(arch), default=0)
    if widest == 0 or weights(_shrink(arch, 1, widest)) > budget:
        raise InputError(
            f"tiny=True: no network of the shape {arch} has at most {budget} weights, "
            "lower the sparsity",
            field="tiny",
        )
    low, high = 1, widest
    while low < high:
        middle = (low + high + 1) // 2
        if weights(_shrink(arch, middle, widest)) <= budget:
            low = middle
        else:
            high = middle - 1
    return _shrink(arch, low, widest)


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
