"""Bands change the order of work and nothing else."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparse_core.kernels import Pattern, bands, checked, isa, plan, reference
from sparse_core.kernels.bands import FIRST, LAST, UNIT, Bands
from tests.sparse_core.kernels.patterns import Problem, close, in_bands, problems
from tests.sparse_core.kernels.test_bounds import check_all
from tests.sparse_core.kernels.test_kernels import check_layer, check_steps

TILE = isa.host().tiles[-1]
FEW = problems((1,), st.sampled_from((TILE - 7, TILE, 2 * TILE + TILE // 2 + 1)))


def slots_of(found: Bands) -> list[tuple[int, int, int]]:
    """Return row, column and place of each slot in the order of use."""
    slots = []
    for first, n, begin, end, slot, _ in found.runs.tolist():
        assert slot == len(slots)
        for entry in range(begin, end):
            for k in range(n):
                band_column = int(found.offsets[len(slots)]) * UNIT // (4 * TILE)
                assert band_column < found.width
                place = int(found.starts[entry]) + k
                slots.append((int(found.order[entry]), first + band_column, place))
    return slots


def check_runs(
    found: Bands, columns: int, rows: NDArray[np.int32], bounds: NDArray[np.int64]
) -> None:
    """Assert that runs are sorted, and that first and last bands have every row of a part."""
    edges = {FIRST: 0, LAST: (columns - 1) // found.width * found.width}
    for part, (begin, end) in enumerate(zip(found.parts[:-1], found.parts[1:], strict=True)):
        runs = found.runs[begin:end].tolist()
        keys = [(first, n) for first, n, *_ in runs]
        assert keys == sorted(set(keys))
        for flag, edge in edges.items():
            flagged = [run for run in runs if run[5] & flag]
            assert all(run[0] == edge for run in flagged)
            entries = [entry for run in flagged for entry in range(run[2], run[3])]
            assert sorted(found.order[entries]) == rows[bounds[part] : bounds[part + 1]].tolist()


@given(problems((1,), st.just(1)), st.integers(1, 80), st.integers(1, 3))
def test_bands_hold_every_slot_once(problem: Problem, width: int, parts: int) -> None:
    p = problem.pattern
    if not p.slots:
        return
    rows, columns, source = p.coordinates()
    cells = dict(zip(zip(rows.tolist(), columns.tolist(), strict=True), source, strict=True))

    bounds = plan.row_bounds(p, parts)
    found = bands.of_rows(p, width, TILE, bounds)
    assert {(row, column): place for row, column, place in slots_of(found)} == cells
    check_runs(found, p.in_features, p.rows, bounds)

    bounds = plan.column_bounds(p, parts)
    found = bands.of_columns(p, width, TILE, bounds)
    slots = slots_of(found)
    assert {(row, column): found.source[place] for column, row, place in slots} == cells
    assert [place for *_, place in slots] == list(range(p.slots))
    check_runs(found, p.out_features, np.arange(p.in_features, dtype=np.int32), bounds)


def test_bands_by_hand() -> None:
    """Two bands of three columns; the rows' slots there: 2 and 1, 0 and 2, 1 and 1."""
    mask = np.array([[1, 0, 1, 0, 1], [0, 0, 0, 1, 1], [0, 1, 0, 1, 0]], np.bool_)
    p = Pattern.from_mask(mask)
    found = bands.of_rows(p, 3, 8, np.array([0, 3]))
    assert found.runs.tolist() == [
        [0, 0, 0, 1, 0, FIRST],
        [0, 1, 1, 2, 0, FIRST],
        [0, 2, 2, 3, 1, FIRST],
        [3, 1, 3, 5, 3, LAST],
        [3, 2, 5, 6, 5, LAST],
    ]
    assert found.order[:6].tolist() == [1, 2, 0, 0, 2, 1]
    assert found.starts[:6].tolist() == [3, 5, 0, 2, 6, 3]
    assert (found.offsets * UNIT // 32).tolist() == [1, 0, 2, 1, 0, 0, 1]


@given(FEW, st.integers(1, 80))
def test_narrow_bands_compute_the_same(problem: Problem, width: int) -> None:
    in_bands(problem.pattern, width)
    check_steps(problem)
    check_layer(problem)


@given(FEW, st.integers(1, 80))
def test_narrow_bands_stay_in_their_arrays(problem: Problem, width: int) -> None:
    in_bands(problem.pattern, width)
    check_all(problem)


@pytest.mark.slow
@given(problems((1,), st.integers(1, 200)), st.integers(1, 80))
def test_narrow_bands_at_any_batch(problem: Problem, width: int) -> None:
    in_bands(problem.pattern, width)
    check_steps(problem)
    check_layer(problem)
    check_all(problem)


def test_width_and_parts_do_not_change_a_product() -> None:
    """A row's sum goes over its columns in one order, so results are equal to the bit."""
    results = []
    for width in (1, 7, 64, 300):
        problem = Problem(0, 40, 300, 1, TILE, 0.3)
        p = problem.pattern
        in_bands(p, width)
        x, dy = checked.pack(problem.x), checked.pack(problem.dy)
        y = checked.forward(p, problem.values, x, TILE, problem.bias, relu=True)
        results.append((y, checked.grad_input(p, problem.values, dy, TILE)))
    for y, dx in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(dx, results[0][1])


def test_rows_without_slots() -> None:
    p = Pattern(
        3, 3, 1, np.array([0, 2], np.uint16), np.array([0, 0, 2, 2], np.int64),
        np.array([0, 1, 2], np.int32),
    )  # fmt: skip
    in_bands(p, 1)
    problem = Problem(0, 3, 3, 1, TILE, 0.0)
    values = np.array([2, 3], np.float32)
    y = checked.forward(p, values, checked.pack(problem.x), TILE, problem.bias, relu=True)
    close(checked.unpack(y, TILE), reference.forward(p, values, problem.x, problem.bias, True))


@pytest.mark.parametrize(
    ("features", "slots", "width"),
    [
        (100, 64 * 10, 100),  # one band: all fits
        (384, 64 * 192, 192),  # 48 KiB of a tile of 64
        (500, 64 * 250, 250),  # equal bands rather than 192 and a rest
        (1024, 64 * 51, 256),  # twelve slots of a row in a band: 241 columns, so four bands
        (1024, 64 * 10, 1024),  # ten slots in all
        (4096, 64 * 10, None),  # too wide for one band, too sparse for two
        (1024, 0, None),
    ],
)
def test_width_by_hand(
    features: int, slots: int, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bands, "first_level_bytes", lambda: 32 << 10)
    assert bands.width_of(features, slots, 64, 64) == width


def test_a_larger_cache_makes_bands_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "first_level_bytes", lambda: 128 << 10)
    assert bands.width_of(1024, 64 * 512, 64, 64) == 512


def test_groups_and_small_tiles_have_no_bands() -> None:
    grouped, single = (Problem(0, 40, 300, group, 1).pattern for group in (4, 1))
    assert plan.row_bands(grouped, TILE, 1) is plan.column_bands(grouped, TILE, 1) is None
    assert plan.row_bands(single, 8, 1) is None
    assert plan.row_bands(single, TILE, 1) is not None


THREADS = """
from sparse_core.kernels import checked, isa, plan
from tests.sparse_core.kernels.patterns import Problem, in_bands
from tests.sparse_core.kernels.test_kernels import check_layer, check_steps
import numpy as np
plan._WORK = 1
tile = isa.host().tiles[-1]
for batch in (tile, 3 * tile + 1, 2 * tile):
    problem = Problem(batch, 45, 77, 1, batch)
    p = problem.pattern
    in_bands(p, 20)
    x, dy = checked.pack(problem.x), checked.pack(problem.dy)
    results = []
    for threads in (1, 2, 3):
        check_layer(problem, threads)
        check_steps(problem, threads)
        y = checked.forward(p, problem.values, x, batch, problem.bias, threads=threads)
        dx = checked.grad_input(p, problem.values, dy, batch, threads=threads)
        dw = checked.grad_values(p, x, dy, batch, threads=threads)
        results.append((y, dx, dw))
    for several in results[1:]:
        for one, same in zip(results[0], several):
            np.testing.assert_array_equal(one, same)
"""


@pytest.mark.slow
def test_threads_do_not_change_a_result() -> None:
    import os

    environment = {**os.environ, "NUMBA_NUM_THREADS": "3", "NUMBA_THREADING_LAYER": "workqueue"}
    done = subprocess.run(
        [sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
