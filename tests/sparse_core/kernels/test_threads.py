"""Kernels give the same results on any number of threads, and to several callers at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from sparse_core.kernels import checked, linear_backward, linear_forward, plan, threads
from tests.sparse_core.kernels.patterns import Problem, close


def run(script: str, **variables: str) -> None:
    """Run a script in a process of its own, with environment variables."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_several_callers_at_once() -> None:
    problems = [Problem(seed, 40, 64, 1 if seed % 2 else 4, 64) for seed in range(4)]
    expected = []
    for p in problems:
        y, saved = linear_forward(p.pattern, p.values, p.x, p.bias)
        expected.append([y, *linear_backward(p.pattern, p.values, saved, p.dy)])
    wrong: list[int] = []

    def work(i: int) -> None:
        p = problems[i % len(problems)]
        for _ in range(30):
            y, saved = linear_forward(p.pattern, p.values, p.x, p.bias)
            results = [y, *linear_backward(p.pattern, p.values, saved, p.dy)]
            if any(
                not np.array_equal(a, b)
                for a, b in zip(results, expected[i % len(problems)], strict=True)
            ):
                wrong.append(i)

    callers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_work_is_cut_into_equal_parts() -> None:
    pattern = Problem(0, 200, 50, 1, 1, density=0.2, ablated=0).pattern
    for parts in (1, 2, 3, 7):
        bounds = plan.row_bounds(pattern, parts)
        assert bounds[0] == 0 and bounds[-1] == pattern.groups and (np.diff(bounds) >= 0).all()
        slots = np.diff(pattern.indptr[bounds])
        assert slots.max() - slots.min() < 2 * np.diff(pattern.indptr).max()
        splits, edges = plan.column_splits(pattern, parts)
        for i in range(pattern.groups):
            columns = pattern.columns[pattern.indptr[i] : pattern.indptr[i + 1]]
            np.testing.assert_array_equal(splits[:, i], np.searchsorted(columns, edges))


def test_little_work_stays_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.numba.config, "NUMBA_NUM_THREADS", 4)
    assert [plan.useful_threads(8, work << 15) for work in (0, 1, 2, 3, 9)] == [1, 1, 2, 3, 4]
    assert [plan.parts(tiles, 4) for tiles in (1, 3, 4, 8)] == [4, 4, 1, 1]


# Batches: one tile for several threads, as many tiles as threads, and neither.
SEVERAL = """
import threading
import numpy as np
from sparse_core.kernels import checked, linear_backward, linear_forward, plan
from tests.sparse_core.kernels.patterns import Problem
from tests.sparse_core.kernels.test_kernels import check_layer, check_steps
plan._WORK = 1
def results(p, threads):
    y, saved = linear_forward(p.pattern, p.values, p.x, p.bias, threads=threads)
    back = linear_backward(p.pattern, p.values, saved, p.dy, threads=threads)
    return [array.copy() for array in (y, *back)]
for group in {groups}:
    for batch in {batches}:
        for threads in (2, 3):
            problem = Problem(batch, 45, 77, group, batch)
            check_layer(problem, threads)
            if {steps}:
                assert all(map(np.array_equal, results(problem, 1), results(problem, threads)))
                check_steps(problem, threads)
                y = checked.gemv(problem.pattern, problem.values, problem.x[0], threads=threads)
                assert (y == checked.gemv(problem.pattern, problem.values, problem.x[0])).all()
failures = []
def work(seed):
    try:
        for i in range(10):
            check_layer(Problem(seed, 45, 77, {groups}[0], {batches}[0]), 2 + (seed + i) % 2)
    except BaseException as error:
        failures.append(error)
callers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
[caller.start() for caller in callers]
[caller.join() for caller in callers]
assert not failures, failures
import numba
assert numba.threading_layer() == {layer!r}, numba.threading_layer()
"""


def test_three_threads() -> None:
    script = SEVERAL.format(groups=(1,), batches=(64,), steps=False, layer="workqueue")
    run(script, NUMBA_NUM_THREADS="3", NUMBA_THREADING_LAYER="workqueue")


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_threads_everywhere(layer: str) -> None:
    probe = "import numba; numba.set_num_threads(2)"
    done = subprocess.run(
        [sys.executable, "-c", probe],
        env={**os.environ, "NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": layer},
        capture_output=True,
    )
    if done.returncode != 0:
        pytest.skip(f"this Numba has no {layer} layer")
    batches = (64, 20, 128, 192, 256, 300)
    script = SEVERAL.format(groups=(1, 4), batches=batches, steps=True, layer=layer)
    run(script, NUMBA_NUM_THREADS="3", NUMBA_THREADING_LAYER=layer, OMP_WAIT_POLICY="PASSIVE")


def test_threads_share_out_tiles_or_rows() -> None:
    pattern = Problem(0, 64, 32, 1, 1, density=0.1, ablated=0).pattern
    dense = Problem(0, 64, 32, 1, 1, density=0.9, ablated=0).pattern
    short = Problem(0, 31, 64, 4, 1, density=0.1, ablated=0).pattern
    assert plan.sums_apart(pattern, 4, 1, 256, 2) == 2
    assert plan.sums_apart(pattern, 4, 2, 256, 2) == 1
    assert plan.sums_apart(pattern, 4, 1, 256, 1) is None
    assert plan.sums_apart(pattern, 3, 1, 192, 2) is None
    assert plan.sums_apart(dense, 64, 1, 512, 2) is None
    assert plan.sums_apart(short, 4, 2, 256, 2) is None


def test_one_thread_leaves_the_pool_alone() -> None:
    run(
        "import os, numba\n"
        "from tests.sparse_core.kernels.patterns import Problem\n"
        "from tests.sparse_core.kernels.test_kernels import check_layer\n"
        "check_layer(Problem(0, 9, 9, 1, 8))\n"
        "try:\n"
        "    numba.threading_layer()\n"
        "except ValueError:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        check_layer(Problem(0, 9, 9, 1, 8))\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "else:\n"
        "    raise SystemExit('a pool was started')\n"
    )


def test_threads_are_given_back() -> None:
    problem = Problem(0, 12, 20, 1, 8)
    before = threads.numba.config.NUMBA_NUM_THREADS
    y = checked.forward(problem.pattern, problem.values, checked.pack(problem.x), 8, threads=16)
    close(y, checked.forward(problem.pattern, problem.values, checked.pack(problem.x), 8))
    assert threads.available(16) == before
