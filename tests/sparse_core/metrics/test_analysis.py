import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_core.metrics.analysis import PATTERNS, output_norm_variance

SIZES = st.integers(2, 4000).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@pytest.mark.parametrize(
    ("pattern", "n", "k", "variance"),
    [
        ("bernoulli", 4, 1, 84 / 24),
        ("constant_per_layer", 4, 1, 76.8 / 24),
        ("constant_fan_in", 4, 1, 66 / 24),
        ("bernoulli", 4, 4, 30 / 24),
        ("constant_per_layer", 4, 4, 30 / 24),
        ("constant_fan_in", 4, 4, 30 / 24),
        ("constant_fan_in", 10, 2, 108 / 120),
    ],
)
def test_variance_by_hand(pattern, n, k, variance):
    assert output_norm_variance(pattern, n, k) == pytest.approx(variance, rel=1e-14)


@settings(deadline=None)
@given(SIZES)
def test_constant_fan_in_has_less_variance_than_bernoulli_by_the_known_gap(size):
    n, k = size
    gap = output_norm_variance("bernoulli", n, k) - output_norm_variance("constant_fan_in", n, k)
    assert gap == pytest.approx(6 * (n - k) / (k * n * (n + 2)), rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(SIZES)
def test_variances_are_ordered_and_equal_for_a_dense_layer(size):
    n, k = size
    bernoulli, per_layer, fan_in = (output_norm_variance(p, n, k) for p in PATTERNS)
    dense = output_norm_variance("constant_fan_in", n, n)
    slack = 1e-9 * bernoulli
    assert 0 < dense <= fan_in + slack
    assert fan_in <= per_layer + slack
    assert per_layer <= bernoulli + slack
    if k == n:
        assert bernoulli == pytest.approx(dense)
        assert per_layer == pytest.approx(dense)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("n", "k"), [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
def test_variance_is_that_of_all_masks_enumerated(pattern, n, k):
    assert output_norm_variance(pattern, n, k) == pytest.approx(
        float(enumerated_variance(pattern, n, k)), rel=1e-12
    )


def enumerated_variance(pattern, n, k):
    """Sum Var |z|^2 over every mask, with the exact moments of w, u and the gates.

    Given mask and u, z_i^2 has mean S_i / k and second moment 6 S_i^2 / k^2 for
    S_i = sum_j m_ij u_j^2; E u_a^2 u_b^2 = (3 if a == b else 1) / (n (n + 2)) on the sphere.
    """
    fourth = Fraction(0)
    for mask, probability in masks(pattern, n, k):
        for a, b in itertools.product(range(n), repeat=2):
            pair = sum(
                Fraction(3 if i == j else 1, n * (n + 2))
                for i, j in itertools.product(mask[a], mask[b])
            )
            fourth += probability * pair * Fraction(6 if a == b else 1, k * k)
    return fourth - 1


def masks(pattern, n, k):
    """Yield the active columns of each row, and the probability of the mask."""
    if pattern == "constant_fan_in":
        rows = list(itertools.combinations(range(n), k))
        for mask in itertools.product(rows, repeat=n):
            yield mask, Fraction(1, len(rows) ** n)
        return
    cells = list(itertools.product(range(n), repeat=2))
    exact = list(itertools.combinations(cells, k * n))
    every = itertools.chain.from_iterable(
        itertools.combinations(cells, size) for size in range(n * n + 1)
    )
    for chosen in exact if pattern == "constant_per_layer" else every:
        if pattern == "constant_per_layer":
            probability = Fraction(1, len(exact))
        else:
            probability = Fraction(k, n) ** len(chosen) * Fraction(n - k, n) ** (
                n * n - len(chosen)
            )
        yield [[j for i, j in chosen if i == row] for row in range(n)], probability


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("n", "k"), [(4, 1), (8, 3)])
def test_variance_is_that_of_sampled_layers(pattern, n, k):
    samples = 100_000
    norms = sampled_norms(pattern, n, k, samples, np.random.default_rng(n * 10 + k))
    errors = (norms - norms.mean()) ** 2
    standard_error = errors.std() / np.sqrt(samples)
    assert norms.mean() == pytest.approx(1, abs=4 * norms.std() / np.sqrt(samples))
    assert errors.mean() == pytest.approx(
        output_norm_variance(pattern, n, k), abs=4 * standard_error
    )


def sampled_norms(pattern, n, k, samples, rng):
    """Draw |z|^2 of as many layers."""
    ranks = rng.random((samples, n, n))
    if pattern == "bernoulli":
        mask = ranks < k / n
    elif pattern == "constant_fan_in":
        mask = ranks.argsort(2).argsort(2) < k
    else:
        flat = ranks.reshape(samples, -1)
        mask = (flat.argsort(1).argsort(1) < k * n).reshape(ranks.shape)
    u = rng.standard_normal((samples, n))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    gates = rng.random((samples, n)) < 0.5
    weights = rng.standard_normal((samples, n, n)) * mask
    z = np.sqrt(2 / k) * gates * (weights @ u[:, :, None])[:, :, 0]
    return (z**2).sum(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("random", 4, 2), "pattern='random': must be one of bernoulli"),
        (("bernoulli", 1, 1), "n=1: must be at least 2"),
        (("bernoulli", 4, 0), "k=0: must be between 1 and n=4"),
        (("bernoulli", 4, 5), "k=5: must be between 1 and n=4"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        output_norm_variance(*arguments)
