"""The limits of the machine: the core's multiply-add peak, and what its BLAS makes of it.

A ratio to dense depends on the machine's BLAS; the fraction of the peak that useful operations
reach carries over to other machines. The peak is that of a loop that does nothing but fused
multiply-adds of float32 vectors in registers, with sums enough to hide their latency.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# The kernel has the types of its Numba signature.

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba as typed_numba
import numpy as np
import torch
from llvmlite import binding

from sparse_core.kernels import isa
from sparse_core.kernels.simd import Lanes, at, cgutils, const, intrinsic, loop, types

ROUNDS = 20_000
"""Rounds of the loop in one call: about a tenth of a millisecond."""

SQUARE = 1024
"""Rows and columns of the product that BLAS is timed on."""

numba: Any = typed_numba  # its types are incomplete


@dataclass(frozen=True)
class Limits:
    """What the machine can do at best.

    Attributes:
        vector_bits: Width of its vectors.
        peak_gflops: Float32 operations a nanosecond of one core, two for each multiply-add.
        blas: Library of torch's dense products, with its version where it says so.
        blas_gflops: The same rate of a large square product of that library, on all threads.
        threads: Threads that the product ran on, and contestants do.
    """

    vector_bits: int
    peak_gflops: float
    blas: str
    blas_gflops: float
    threads: int

    @property
    def all_cores(self) -> float:
        """The peak of as many cores as there are threads, in GFLOP/s."""
        return self.threads * self.peak_gflops

    def facts(self) -> dict[str, str]:
        """Return them as text, for the head of a report."""
        return {
            "vector bits": str(self.vector_bits),
            "peak of a core, GFLOP/s": f"{self.peak_gflops:.1f}",
            "blas": self.blas,
            f"blas, {SQUARE} x {SQUARE} squared, GFLOP/s": f"{self.blas_gflops:.1f}",
            "threads": str(self.threads),
        }


def limits(threads: int) -> Limits:
    """Measure the machine; takes about a second, most of it to compile the loop.

    Args:
        threads: Threads that torch is set to.
    """
    machine = widest()
    return Limits(32 * machine.lanes, peak_gflops(machine), blas(), blas_gflops(), threads)


def widest() -> isa.Isa:
    """Return the widest vectors of this machine, whatever kernels are limited to."""
    return isa.widest(binding.get_process_triple(), isa.cpu_features())


def peak_gflops(machine: isa.Isa, blocks: int = 100) -> float:
    """Return GFLOP/s of multiply-adds in registers, those of the fastest of some blocks."""
    sums = independent_sums(machine)
    run, state = multiply_add_loop(machine.lanes, sums), np.ones(sums * machine.lanes, np.float32)
    best = fastest(lambda: run(state, 0.5, 0.5, ROUNDS), blocks)
    return 2e-9 * ROUNDS * state.size / best


def independent_sums(machine: isa.Isa) -> int:
    """Return how many sums to keep in flight: three quarters of the registers."""
    return 3 * machine.registers // 4


def multiply_add_loop(lanes: int, sums: int) -> Any:
    """Compile `s = factor * s + term` for `sums` vectors of `lanes` numbers, `n` times.

    Returns:
        A function of (state, factor, term, n); `state` has `sums * lanes` numbers.
    """

    @numba.njit("void(float32[::1], float32, float32, int64)", nogil=True)
    def run(state, factor, term, n):
        multiply_adds(lanes, sums, at(state, 0), factor, term, n)

    return run


@intrinsic
def multiply_adds(
    typing_context: Any, LANES: Any, SUMS: Any, state: Any, factor: Any, term: Any, n: Any
) -> Any:
    """Replace vectors by factor * vector + term, `n` times, in registers."""
    signature = types.void(LANES, SUMS, state, types.float32, types.float32, types.int64)
    lanes, sums = LANES.literal_value, SUMS.literal_value

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, state, factor, term, n = arguments
        v = Lanes(builder, lanes)
        factors, terms = v.splat(factor), v.splat(term)
        registers = [cgutils.alloca_once(builder, v.type) for _ in range(sums)]
        for i, register in enumerate(registers):
            builder.store(v.load(state, i * lanes), register)
        with loop(builder, const(0), n):
            for register in registers:
                builder.store(v.fma(factors, builder.load(register), terms), register)
        for i, register in enumerate(registers):
            v.store(builder.load(register), state, i * lanes)
        return context.get_dummy_value()

    return signature, codegen


def blas() -> str:
    """Return the library of torch's dense products, such as `MKL 2024.2`."""
    built = torch.__config__.show()
    found = re.search(r"BLAS_INFO=(\w+)", built)
    name = found[1] if found else "unknown"
    if name == "mkl" and (version := re.search(r"Math Kernel Library Version ([\d.]+)", built)):
        return f"MKL {version[1]}"
    return name


def blas_gflops(blocks: int = 7) -> float:
    """Return GFLOP/s of a large square product of torch, those of the fastest of some."""
    a, b = torch.randn(2, SQUARE, SQUARE)
    return 2e-9 * SQUARE**3 / fastest(lambda: a @ b, blocks)


def fastest(call: Callable[[], object], blocks: int) -> float:
    """Return the seconds of the fastest of some calls, after one that does not count."""
    call()
    best = float("inf")
    for _ in range(blocks):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
