"""Activations that kernels apply to their results, and the derivatives."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# mypy: no-check-untyped-defs
# Kernels have the types of their Triton signatures.

from __future__ import annotations

import triton
import triton.language as tl

CODES = {None: 0, "relu": 1, "tanh": 2, "gelu": 3, "gelu_tanh": 4}
"""What kernels call an activation."""

READS_INPUT = ("gelu", "gelu_tanh")
"""Activations whose derivative is a function of their input; of the others, of their output."""


@triton.jit
def _tanh(z):
    return 2 * tl.sigmoid(2 * z) - 1


@triton.jit
def activated(z, ACTIVATION: tl.constexpr):
    """Return the activation of float32 numbers; NaN stays NaN."""
    if ACTIVATION == 1:
        z = tl.where(z <= 0, 0.0, z)
    elif ACTIVATION == 2:
        z = _tanh(z)
    elif ACTIVATION == 3:
        z = 0.5 * z * (1 + tl.erf(z * 0.7071067811865476))
    elif ACTIVATION == 4:
        z = 0.5 * z * (1 + _tanh(0.7978845608028654 * (z + 0.044715 * z * z * z)))
    return z


@triton.jit
def through(signal, seen, ACTIVATION: tl.constexpr):
    """Return the gradient of an activation's input from that of its output.

    `seen` is the output, or for `READS_INPUT` the input.
    """
    if ACTIVATION == 1:
        signal = tl.where(seen <= 0, 0.0, signal)
    elif ACTIVATION == 2:
        signal = signal * (1 - seen * seen)
    elif ACTIVATION == 3:
        bell = 0.3989422804014327 * tl.exp(-0.5 * seen * seen)
        signal = signal * (0.5 * (1 + tl.erf(seen * 0.7071067811865476)) + seen * bell)
    elif ACTIVATION == 4:
        square = seen * seen
        t = _tanh(0.7978845608028654 * seen * (1 + 0.044715 * square))
        slope = 0.7978845608028654 * (1 + 0.134145 * square)
        signal = signal * (0.5 * (1 + t) + 0.5 * seen * (1 - t * t) * slope)
    return signal
