"""Random patterns and data for the tests of the kernels."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparse_core.kernels import Pattern, isa


def random_mask(
    rng: np.random.Generator, out: int, inputs: int, group: int, density: float, ablated: float
) -> NDArray[np.bool_]:
    """Return an (out, in) mask whose groups share columns and are absent with a probability."""
    groups = -(-out // group)
    mask = rng.random((groups, inputs)) < density
    mask[rng.random(groups) < ablated] = False
    return np.repeat(mask, group, axis=0)[:out]


def constant_fan_in(
    rng: np.random.Generator, out: int, inputs: int, fan_in: int, group: int = 1
) -> Pattern:
    """Return a random pattern of constant fan-in."""
    groups = -(-out // group)
    columns = [np.sort(rng.choice(inputs, fan_in, replace=False)) for _ in range(groups)]
    return Pattern.from_lengths(
        np.concatenate(columns), np.full(groups, fan_in), inputs, out, group
    )


@st.composite
def problems(draw: st.DrawFn, groups: tuple[int, ...], batches: st.SearchStrategy[int]) -> Problem:
    """Draw a pattern, a batch size and a seed of the numbers."""
    return Problem(
        seed=draw(st.integers(0, 2**32 - 1)),
        out=draw(st.integers(1, 40)),
        inputs=draw(st.integers(1, 70)),
        group=draw(st.sampled_from(groups)),
        batch=draw(batches),
        density=draw(st.sampled_from((0.0, 0.03, 0.2, 0.7, 1.0))),
        ablated=draw(st.sampled_from((0.0, 0.3, 1.0))),
        spare=draw(st.integers(0, 5)),
    )


def in_bands(pattern: Pattern, width: int) -> None:
    """Let kernels go over a pattern without groups in bands of a width, whatever its size."""
    for tile in isa.host().tiles:
        for passes in ("row width", "column width"):
            pattern.plans[passes, tile] = width if pattern.slots else None
        pattern.plans["value bands pay", tile] = True


class Problem:
    """A pattern with values, a bias, an input, and a gradient of the output."""

    def __init__(
        self,
        seed: int,
        out: int,
        inputs: int,
        group: int,
        batch: int,
        density: float = 0.3,
        ablated: float = 0.2,
        spare: int = 3,
        dtype: type = np.float32,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.batch = batch
        self.mask = random_mask(rng, out, inputs, group, density, ablated)
        self.pattern = Pattern.from_mask(self.mask, group)
        self.dense = np.where(self.mask, rng.standard_normal((out, inputs)), 0).astype(dtype)
        # What no weight uses is NaN: a kernel that reads it gives itself away.
        self.values = np.full(self.pattern.size + spare, np.nan, dtype)
        rows, columns, source = self.pattern.coordinates()
        self.values[source] = self.dense[rows, columns]
        self.bias = rng.standard_normal(out).astype(dtype)
        self.x = rng.standard_normal((batch, inputs)).astype(dtype)
        self.dy = rng.standard_normal((batch, out)).astype(dtype)

    def __repr__(self) -> str:
        p = self.pattern
        return (
            f"Problem({p.out_features}x{p.in_features}, group {p.group}, {p.nnz} weights, "
            f"{p.absent.size} rows absent, batch {self.batch})"
        )


def close(actual: NDArray[np.generic], expected: NDArray[np.generic]) -> None:
    """Assert that float32 results agree up to the order of sums."""
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)
