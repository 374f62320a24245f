"""The machine's limits: the loop does the multiply-adds that are counted, rates are per second."""

from __future__ import annotations

import numpy as np
import pytest

from sparse_core.kernels import isa
from sweeps.bench import peak


@pytest.mark.parametrize("sums", [1, 12])
def test_the_loop_does_every_multiply_add(sums):
    lanes = peak.widest().lanes
    state = np.arange(sums * lanes, dtype=np.float32)
    expected = state.copy()
    peak.multiply_add_loop(lanes, sums)(state, 0.5, 3.0, 5)
    for _ in range(5):
        expected = np.float32(0.5) * expected + np.float32(3.0)
    # Halves and threes of small whole numbers are exact: fused or not makes no difference.
    np.testing.assert_array_equal(state, expected)


def test_sums_leave_registers_for_operands():
    assert [peak.independent_sums(m) for m in (isa.AVX512, isa.AVX, isa.NEON)] == [24, 12, 24]


def test_rates_count_two_operations_each(monkeypatch):
    monkeypatch.setattr(peak, "fastest", lambda call, blocks: 1e-3)
    machine = peak.widest()
    numbers = peak.independent_sums(machine) * machine.lanes
    assert peak.peak_gflops(machine) == pytest.approx(2 * peak.ROUNDS * numbers / 1e6)
    assert peak.blas_gflops() == pytest.approx(2 * 1024**3 / 1e6)


def test_the_fastest_call_counts_and_the_first_does_not(monkeypatch):
    ticks = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(peak.time, "perf_counter", lambda: next(ticks))
    calls = []
    assert peak.fastest(lambda: calls.append(1), 3) == 2.0
    assert len(calls) == 4


def test_facts_are_those_of_the_head():
    limits = peak.Limits(512, 118.04, "MKL 2024.2", 90.96, 2)
    assert limits.all_cores == pytest.approx(236.08)
    assert limits.facts() == {
        "vector bits": "512",
        "peak of a core, GFLOP/s": "118.0",
        "blas": "MKL 2024.2",
        "blas, 1024 x 1024 squared, GFLOP/s": "91.0",
        "threads": "2",
    }


@pytest.mark.parametrize(
    ("built", "name"),
    [
        ("Math Kernel Library Version 2024.2-Product Build 1\n BLAS_INFO=mkl, X=1", "MKL 2024.2"),
        ("BLAS_INFO=open, X=1", "open"),
        ("nothing", "unknown"),
    ],
)
def test_the_library_is_torchs(monkeypatch, built, name):
    monkeypatch.setattr(peak.torch.__config__, "show", lambda: built)
    assert peak.blas() == name
