"""No kernel reads or writes beyond its arrays.

Every array lies between guards. Guards of what is written must stay as they were; guards of what
is read are NaN, or column 65535 of inputs that have none, so that reading them shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparse_core.kernels import Lookup, checked, reference, unchecked
from tests.sparse_core.kernels.patterns import Problem, close, problems

GUARD = 96
FEW = problems((1, 4), st.sampled_from((1, 5, 8, 57, 64, 100)))


class Guards:
    """Places arrays between guards, and looks at the guards afterwards."""

    def __init__(self) -> None:
        self._all: list[tuple[NDArray[np.generic], NDArray[np.generic]]] = []

    def put(self, array: NDArray[np.generic], guard: float) -> NDArray[np.generic]:
        """Return a copy of an array that lies between guards."""
        whole = np.full(array.size + 2 * GUARD, guard, array.dtype)
        inside = whole[GUARD : GUARD + array.size].reshape(array.shape)
        inside[...] = array
        self._all.append((whole, whole.copy()))
        return inside

    def new(self, *shape: int) -> NDArray[np.float32]:
        """Return an array to write to."""
        return self.put(np.zeros(shape, np.float32), -77.0)

    def check(self) -> None:
        """Assert that no guard has changed."""
        for whole, before in self._all:
            np.testing.assert_array_equal(whole[:GUARD], before[:GUARD])
            np.testing.assert_array_equal(whole[-GUARD:], before[-GUARD:])


def check_all(problem: Problem) -> None:
    """Run all kernels between guards."""
    guards = Guards()
    batch, nan = problem.batch, np.nan
    p = replace(
        problem.pattern,
        columns=guards.put(problem.pattern.columns, 65535),
        indptr=guards.put(problem.pattern.indptr, 2**40),
        rows=guards.put(problem.pattern.rows, 2**30),
        plans={},
    )
    values = guards.put(problem.values, nan)
    bias, x, dy = (guards.put(a, nan) for a in (problem.bias, problem.x, problem.dy))
    tile = checked.tile_size(batch)
    tiles, out, inputs = -(-batch // tile), p.out_features, p.in_features
    bx = checked.pack(x, out=guards.new(tiles, inputs, tile))
    bdy = checked.pack(dy, out=guards.new(tiles, out, tile))
    np.testing.assert_array_equal(
        checked.unpack(bx, batch, out=guards.new(batch, inputs)), problem.x
    )
    y = checked.forward(p, values, bx, batch, bias, out=guards.new(tiles, out, tile))
    close(checked.unpack(y, batch), reference.forward(p, values, x, bias))
    for method in ("gather", "scatter"):
        dx = checked.grad_input(
            p, values, bdy, batch, method=method, out=guards.new(tiles, inputs, tile)
        )
        close(checked.unpack(dx, batch), reference.grad_input(p, values, dy))
    dvalues, db = guards.new(values.size), guards.new(out)
    checked.grad_values(p, bx, bdy, batch, out=dvalues, bias_out=db)
    close(dvalues, reference.grad_values(p, x, dy, values.size))
    close(db, reference.grad_bias(dy))
    checked.grad_bias(bdy, batch, out=db)
    close(db, reference.grad_bias(dy))
    one = checked.gemv(p, values, x[0], bias, out=guards.new(out))
    close(one, reference.forward(p, values, x[:1], bias)[0])
    by_address = guards.new(1, out)
    unchecked.one_sample(p, values, bias, False)(x.ctypes.data, by_address)
    np.testing.assert_array_equal(by_address[0], one)
    if Lookup.suits(p):
        lookup = Lookup(p)
        lookup.refresh(values)
        close(lookup.gemv(x[0], bias, out=guards.new(out)), one)
    checked.activate("tanh", bx, out=guards.new(*bx.shape))
    checked.activate_backward("relu", bx, bx, out=guards.new(*bx.shape))
    guards.check()


@given(FEW)
def test_guards(problem: Problem) -> None:
    check_all(problem)


@pytest.mark.slow
@settings(max_examples=500)
@given(problems((1, 2, 4, 8), st.integers(1, 200)))
def test_guards_everywhere(problem: Problem) -> None:
    check_all(problem)


@pytest.mark.slow
def test_with_bounds_checks() -> None:
    script = (
        "import numba.core.config, itertools\n"
        "from tests.sparse_core.kernels.patterns import Problem\n"
        "from tests.sparse_core.kernels.test_bounds import check_all\n"
        "from tests.sparse_core.kernels.test_kernels import check_layer\n"
        "assert numba.core.config.BOUNDSCHECK\n"
        "for seed, group, batch in itertools.product(range(5), (1, 4), (1, 8, 60, 70)):\n"
        "    problem = Problem(seed, 5 + 7 * seed, 3 + 11 * seed, group, batch)\n"
        "    check_all(problem)\n"
        "    check_layer(problem)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
