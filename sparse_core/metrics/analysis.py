"""What a sparsity pattern does to the norm of a layer's output, in closed form.

The layer is n -> n with k of n inputs per neuron and random ReLU gates:

    z_i = sqrt(2 / k) g_i sum_j m_ij w_ij u_j

u is uniform on the unit sphere, w_ij ~ N(0, 1), g_i is 0 or 1 with probability 1/2 (a neuron's ReLU
is open or shut), all independent. Every pattern gives E |z|^2 = 1; they differ in Var |z|^2, and
constant fan-in has the least (the theory behind SRigL, Lasby et al. 2024, section 3).
"""

from __future__ import annotations

from sparse_core.checks import InputError, one_of

PATTERNS = ("bernoulli", "constant_per_layer", "constant_fan_in")


def output_norm_variance(pattern: str, n: int, k: int) -> float:
    """Return Var |z|^2 of the layer above.

        bernoulli            (5 n - 8 + 18 n / k) / (n (n + 2))
        constant_per_layer   ((n^2 + 7 n - 8) C + 18 n / k - n^2 - 2 n) / (n (n + 2)),
                             C = (n - 1 / k) / (n - 1 / n)
        constant_fan_in      (5 n - 2 + 12 n / k) / (n (n + 2))

    Bernoulli exceeds constant fan-in by 6 (n - k) / (k n (n + 2)).

    Args:
        pattern: How the mask is drawn: `bernoulli`, each weight active with probability k / n;
            `constant_per_layer`, k n of all weights; `constant_fan_in`, k of each neuron's weights.
        n: Neurons, and inputs of each; at least 2.
        k: Active inputs of a neuron, on average for the first two; 1 to n.

    Raises:
        ValueError: If the pattern is unknown or n or k is out of range.
    """
    one_of("pattern", pattern, PATTERNS)
    if n < 2:
        raise InputError(f"n={n}: must be at least 2", field="n")
    if not 1 <= k <= n:
        raise InputError(f"k={k}: must be between 1 and n={n}", field="k")
    if pattern == "bernoulli":
        numerator = 5 * n - 8 + 18 * n / k
    elif pattern == "constant_per_layer":
        pair = (n - 1 / k) / (n - 1 / n)
        numerator = (n**2 + 7 * n - 8) * pair + 18 * n / k - n**2 - 2 * n
    else:
        numerator = 5 * n - 2 + 12 * n / k
    return numerator / (n * (n + 2))
