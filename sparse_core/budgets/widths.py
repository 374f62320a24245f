"""The widest dense network, of the shape of another, that has no more than so many weights.

All hidden layers shrink by the same factor; then each gets the neurons for which there is room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sparse_core.checks import InputError

Widths = list[int] | dict[str, list[int]]
"""Of the hidden layers; the parts of a network by name."""


def widest_within(
    widths: Widths,
    weights: Callable[[Widths], int],
    budget: int,
    field: str,
    remedy: str = "lower the sparsity",
    *,
    alike: bool = False,
) -> Widths:
    """Return the widest layers, in about the proportions of others, within a budget of weights.

    Args:
        widths: Widths of the hidden layers.
        weights: Counts the weights of a network of given widths.
        budget: How many there may be.
        field: What the widths are called, for messages.
        remedy: What helps where the budget is too small, for messages.
        alike: Whether the layers of a part have one width, as residual blocks do.

    Raises:
        InputError: If even one neuron a layer is too much.
    """
    widest = max(_all(widths), default=0)
    if widest == 0 or weights(_shrink(widths, 1, widest)) > budget:
        raise InputError(
            f"{field}={widths}: no dense network of this shape has at most {budget} weights, "
            f"{remedy}",
            field=field,
        )
    low, high = 1, widest
    while low < high:
        middle = (low + high + 1) // 2
        if weights(_shrink(widths, middle, widest)) <= budget:
            low = middle
        else:
            high = middle - 1
    return _fill(_shrink(widths, low, widest), weights, budget, alike)


def _fill(layers: Widths, weights: Callable[[Widths], int], budget: int, alike: bool) -> Widths:
    """Add neurons to one layer after the other as long as the weights stay within the budget."""
    filled: Widths = dict(layers) if isinstance(layers, dict) else list(layers)
    for part, places in _places(layers, alike):
        while weights(wider := _widened(filled, part, places)) <= budget:
            filled = wider
    return filled


def _places(layers: Widths, alike: bool) -> list[tuple[str | None, range]]:
    """Name the layers that grow together by their part, None where there is one only."""
    places: list[tuple[str | None, range]] = []
    for part, widths in layers.items() if isinstance(layers, dict) else [(None, layers)]:
        size = len(widths) if alike else 1
        places += [(part, range(i, i + size)) for i in range(0, len(widths), size or 1)]
    return places


def _widened(layers: Widths, part: str | None, places: range) -> Widths:
    if isinstance(layers, dict):
        assert part is not None
        return layers | {part: _one_more(layers[part], places)}
    return _one_more(layers, places)


def _one_more(widths: list[int], places: range) -> list[int]:
    return [width + (place in places) for place, width in enumerate(widths)]


def _shrink(widths: Widths, numerator: int, denominator: int) -> Widths:
    def smaller(part: list[int]) -> list[int]:
        return [max(1, width * numerator // denominator) for width in part]

    if isinstance(widths, dict):
        return {name: smaller(part) for name, part in widths.items()}
    return smaller(widths)


def _all(widths: Widths) -> Sequence[int]:
    if isinstance(widths, dict):
        return [width for part in widths.values() for width in part]
    return widths
