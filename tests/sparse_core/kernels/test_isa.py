"""Vectors and tiles follow the instruction set, and every choice computes the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sparse_core.kernels import GROUPS, isa
from sparse_core.kernels.arguments import tile_size


def test_widest_by_hand() -> None:
    x86, arm = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
    assert isa.widest(x86, "+sse2,+avx,+avx2,+avx512f,+avx512vl") == isa.AVX512
    assert isa.widest(x86, "+sse2,+avx,+avx2,+avx512f,-avx512vl") == isa.AVX
    assert isa.widest(x86, "+sse2,-avx") == isa.SSE
    assert isa.widest("arm64-apple-darwin23", "") == isa.NEON
    assert isa.widest(arm, "+neon") == isa.NEON


@pytest.mark.parametrize("machine", [isa.AVX512, isa.AVX, isa.NEON, isa.SSE])
def test_sums_fit_the_registers(machine: isa.Isa) -> None:
    for tile in machine.tiles:
        for group in GROUPS:
            rows, lanes = machine.rows_together(group), machine.vector(tile)
            sub = machine.register_tile(rows, tile)
            assert group % rows == 0 and tile % sub == 0 and sub % lanes == 0
            sums = rows * (sub // lanes) * machine.unroll(rows, tile)
            assert sums <= machine.registers // 2
            assert machine.dots(tile) % max(rows, lanes) == 0


def test_tiles_suit_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    tile_size.cache_clear()
    monkeypatch.setattr(isa, "host", lambda: isa.AVX512)
    batches = (1, 8, 9, 16, 20, 33, 64, 65, 96, 100, 256)
    try:
        assert [tile_size(batch) for batch in batches] == [
            8, 8, 16, 16, 32, 64, 64, 32, 32, 64, 64,
        ]  # fmt: skip
    finally:
        tile_size.cache_clear()


def _run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )


def test_a_width_that_is_not_there() -> None:
    done = _run(
        "from sparse_core.kernels import isa; isa.host()", **{isa.VECTOR_BITS_VARIABLE: "1024"}
    )
    assert "SPARSE_CORE_VECTOR_BITS must be 128, 256 or 512 and at most" in done.stderr


CHECK = """
from tests.sparse_core.kernels.patterns import Problem, in_bands
from tests.sparse_core.kernels.test_kernels import check_layer, check_steps
for batch in (7, 70):
    problem = Problem(batch, 29, 50, 1, batch)
    in_bands(problem.pattern, 8)
    check_steps(problem)
    check_layer(problem)
for group in (1, 2, 4, 8, 16, 32):
    for batch in (1, 7, 16, 40, 70):
        problem = Problem(batch, 29, 50, group, batch)
        check_steps(problem)
        check_layer(problem)
"""


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["128", "256", "512"])
def test_every_width(bits: str) -> None:
    if int(bits) > 32 * isa.host().lanes:
        pytest.skip(f"this machine has no vectors of {bits} bits")
    done = _run(CHECK, **{isa.VECTOR_BITS_VARIABLE: bits})
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(isa.host().registers != 32, reason="needs an x86 machine with AVX-512")
def test_code_for_a_machine_with_avx2() -> None:
    features = "+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+popcnt"
    features += ",+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave"
    done = _run(
        "from sparse_core.kernels import isa; assert isa.host() == isa.AVX\n" + CHECK,
        NUMBA_CPU_NAME="haswell",
        NUMBA_CPU_FEATURES=features,
    )
    assert done.returncode == 0, done.stderr
