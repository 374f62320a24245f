"""Every kernel computes what its plain function says, whatever the shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_core.kernels import (
    Lookup,
    Pattern,
    isa,
    linear,
    linear_backward,
    linear_forward,
    plan,
    reference,
    unchecked,
)
from sparse_core.kernels import (
    checked as checked,
)
from tests.sparse_core.kernels.patterns import Problem, close, constant_fan_in, problems

# Two tile sizes and two groups by default, for the sake of the time to compile; all when slow.
FEW = problems((1, 4), st.sampled_from((1, 2, 3, 7, 8, 57, 64, 100, 190)))
ALL = problems((1, 2, 4, 8, 16, 32), st.integers(1, 200))


def check_steps(problem: Problem, threads: int = 1) -> None:
    """Compare the steps of a layer in the blocked layout."""
    p, values, batch = problem.pattern, problem.values, problem.batch
    x = checked.pack(problem.x, threads=threads)
    np.testing.assert_array_equal(x, reference.pack(problem.x, x.shape[2]))
    np.testing.assert_array_equal(checked.unpack(x, batch, threads=threads), problem.x)
    y = checked.forward(p, values, x, batch, problem.bias, threads=threads)
    expected = reference.forward(p, values, problem.x, problem.bias)
    close(y, reference.pack(expected, x.shape[2]))
    dy = checked.pack(problem.dy, threads=threads)
    for method in ("gather", "scatter"):
        dx = checked.grad_input(p, values, dy, batch, method=method, threads=threads)
        close(checked.unpack(dx, batch), reference.grad_input(p, values, problem.dy))
    db = np.full(p.out_features, np.nan, np.float32)
    dvalues = checked.grad_values(
        p, x, dy, batch, capacity=values.size, bias_out=db, threads=threads
    )
    close(dvalues, reference.grad_values(p, problem.x, problem.dy, values.size))
    close(db, reference.grad_bias(problem.dy))
    close(checked.grad_bias(dy, batch, threads=threads), reference.grad_bias(problem.dy))


def check_layer(problem: Problem, threads: int = 1) -> None:
    """Compare a layer on rows."""
    p, values = problem.pattern, problem.values
    y, saved = linear_forward(p, values, problem.x, problem.bias, threads=threads)
    close(y, reference.forward(p, values, problem.x, problem.bias))
    dx, dvalues, db = linear_backward(p, values, saved, problem.dy, threads=threads)
    assert dx is not None and dvalues is not None and db is not None
    close(dx, reference.grad_input(p, values, problem.dy))
    close(dvalues, reference.grad_values(p, problem.x, problem.dy, values.size))
    close(db, reference.grad_bias(problem.dy))
    for relu in (False, True):
        close(
            linear(p, values, problem.x, problem.bias, relu=relu, threads=threads),
            reference.forward(p, values, problem.x, problem.bias, relu),
        )


@given(FEW)
def test_steps(problem: Problem) -> None:
    check_steps(problem)


@given(FEW)
def test_layers(problem: Problem) -> None:
    check_layer(problem)


@pytest.mark.slow
@settings(max_examples=400)
@given(ALL)
def test_all_steps(problem: Problem) -> None:
    check_steps(problem)


@pytest.mark.slow
@settings(max_examples=400)
@given(ALL)
def test_all_layers(problem: Problem) -> None:
    check_layer(problem)


@pytest.mark.parametrize("group", [2, 8, 32])
def test_other_groups(group: int) -> None:
    check_steps(Problem(group, 37, 61, group, 5, ablated=0))


@pytest.mark.parametrize("group", [2, 4])
@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_tiles_that_share_a_sum(group: int, tiles: int) -> None:
    """Two whole tiles at a time, and one that is left; the last group has a row less."""
    tile = isa.host().tiles[-1]
    problem = Problem(group, 4 * group - 1, 61, group, tiles * tile - 1, ablated=0)
    assert plan.tiles_together(problem.pattern, tile) == 2
    check_steps(problem)


def test_wide_inputs_share_no_sum_in_groups_of_two() -> None:
    narrow, wide = (Problem(0, 4, 2 * n, 2, 1, 0.01).pattern for n in (100, 40_000))
    tile = isa.host().tiles[-1]
    assert (plan.tiles_together(narrow, tile), plan.tiles_together(wide, tile)) == (2, 1)
    assert plan.tiles_together(narrow, 8) == 1
    assert plan.tiles_together(Problem(0, 4, 9, 1, 1).pattern, tile) == 1


@pytest.mark.parametrize("group", [1, 2, 4, 8, 32])
@pytest.mark.parametrize("relu", [False, True])
def test_one_sample(group: int, relu: bool) -> None:
    for seed, (out, inputs, density) in enumerate(
        ((1, 1, 1.0), (13, 33, 0.5), (40, 300, 0.1), (24, 50, 1.0), (9, 20, 0.0))
    ):
        problem = Problem(seed, out, inputs, group, 1, density)
        p, values = problem.pattern, problem.values
        y = checked.gemv(p, values, problem.x[0], problem.bias, relu=relu)
        close(y, reference.forward(p, values, problem.x, problem.bias, relu)[0])
        by_address = np.empty((1, out), np.float32)
        unchecked.one_sample(p, values, problem.bias, relu)(problem.x.ctypes.data, by_address)
        np.testing.assert_array_equal(by_address[0], y)


@pytest.mark.parametrize(
    ("out", "inputs", "density"),
    [(5, 33, 0.3), (40, 32, 0.1), (100, 1000, 0.1), (17, 70, 0.9), (3, 31, 0.5), (8, 64, 0.0)],
)
def test_lookup(out: int, inputs: int, density: float) -> None:
    problem = Problem(0, out, inputs, 1, 1, density, 0.1)
    p = problem.pattern
    if not Lookup.suits(p):
        with pytest.raises(ValueError, match="lookup needs AVX-512 and a suitable pattern"):
            Lookup(p)
        return
    lookup = Lookup(p)
    lookup.refresh(problem.values)
    y = lookup.gemv(problem.x[0], problem.bias, relu=True)
    close(y, reference.forward(p, problem.values, problem.x, problem.bias, True)[0])
    lookup.refresh(2 * problem.values)
    np.testing.assert_array_equal(lookup.gemv(problem.x[0], 2 * problem.bias, relu=True), 2 * y)


@pytest.mark.slow
@settings(max_examples=100)
@given(problems((1,), st.just(1)), st.integers(32, 200))
def test_all_lookups(problem: Problem, inputs: int) -> None:
    out, inputs = problem.mask.shape[0], max(inputs, problem.mask.shape[1])
    test_lookup(out, inputs, float(problem.mask.mean()))


def test_wide_inputs_have_wide_indices() -> None:
    rng = np.random.default_rng(0)
    p = constant_fan_in(rng, 5, 70_000, 40)
    assert p.columns.dtype == np.int32
    values = rng.standard_normal(p.size).astype(np.float32)
    x = rng.standard_normal((3, 70_000)).astype(np.float32)
    dy = rng.standard_normal((3, 5)).astype(np.float32)
    y, saved = linear_forward(p, values, x)
    close(y, reference.forward(p, values, x))
    dx, dvalues, _ = linear_backward(p, values, saved, dy)
    assert dx is not None and dvalues is not None
    close(dx, reference.grad_input(p, values, dy))
    close(dvalues, reference.grad_values(p, x, dy))
    close(checked.gemv(p, values, x[0]), y[0])


def test_rows_of_no_length_are_rows_without_weights() -> None:
    p = Pattern(
        3,
        3,
        1,
        np.array([0, 2], np.uint16),
        np.array([0, 0, 2, 2], np.int64),
        np.array([0, 1, 2], np.int32),
    )
    problem = Problem(0, 3, 3, 1, 4, 0.0)
    values = np.array([2, 3], np.float32)
    y, saved = linear_forward(p, values, problem.x, problem.bias)
    expected = np.tile(problem.bias, (4, 1))
    expected[:, 1] += 2 * problem.x[:, 0] + 3 * problem.x[:, 2]
    close(y, expected)
    _, dvalues, _ = linear_backward(p, values, saved, problem.dy)
    assert dvalues is not None
    close(dvalues, (problem.dy[:, 1] @ problem.x[:, [0, 2]]))


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("size", [1, 15, 16, 1000])
def test_activations(name: str, size: int) -> None:
    rng = np.random.default_rng(size)
    x = (3 * rng.standard_normal(size)).astype(np.float32)
    dy = rng.standard_normal(size).astype(np.float32)
    y = checked.activate(name, x)
    close(y, getattr(reference, name)(x))
    close(checked.activate_backward(name, dy, y), getattr(reference, f"{name}_backward")(dy, y))
    in_place = x.copy()
    assert checked.activate(name, in_place, out=in_place) is in_place
    np.testing.assert_array_equal(in_place, y)
    over = dy.copy()
    checked.activate_backward(name, over, y, out=over)
    np.testing.assert_array_equal(over, checked.activate_backward(name, dy, y))


def test_tanh_is_accurate_everywhere() -> None:
    x = np.concatenate([np.linspace(-12, 12, 200_001), np.geomspace(1e-38, 1e38, 10_001)])
    x = np.concatenate([x, -x]).astype(np.float32)
    exact = np.tanh(x.astype(np.float64))
    error = np.abs(checked.activate("tanh", x) - exact) / np.maximum(np.abs(exact), 1e-37)
    assert error.max() < 2e-7
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    result = checked.activate("tanh", special)
    np.testing.assert_array_equal(result, [np.nan, 1, -1, 0, -0.0])
    assert np.signbit(result).tolist()[3:] == [False, True]


@pytest.mark.parametrize("group", [1, 4])
def test_nan_and_infinity_reach_what_they_are_connected_to(group: int) -> None:
    problem = Problem(3, 21, 40, group, 57, 0.3, 0.2)
    p, values = problem.pattern, problem.values
    read = p.columns
    problem.x[5, read[0]], problem.x[20, read[1]], problem.x[56, 0] = np.nan, np.inf, -np.inf
    problem.dy[4, 1], problem.dy[50, 20] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        check_layer(problem)
        y = reference.forward(p, values, problem.x[5:6])[0]
        close(checked.gemv(p, values, problem.x[5]), y)
    if Lookup.suits(p):
        lookup = Lookup(p)
        lookup.refresh(values)
        close(lookup.gemv(problem.x[5]), y)
    assert np.isnan(y).any() and not np.isnan(y).all()


def test_float64_and_empty_batches_take_the_plain_path() -> None:
    problem = Problem(0, 7, 9, 2, 3, dtype=np.float64)
    p, values = problem.pattern, problem.values
    y, saved = linear_forward(p, values, problem.x, problem.bias)
    np.testing.assert_array_equal(y, reference.forward(p, values, problem.x, problem.bias))
    dx, dvalues, db = linear_backward(p, values, saved, problem.dy)
    assert dx is not None and dvalues is not None and db is not None
    np.testing.assert_array_equal(dx, reference.grad_input(p, values, problem.dy))
    assert {dx.dtype, dvalues.dtype, db.dtype, y.dtype} == {np.dtype(np.float64)}
    nothing = np.zeros((0, 9), np.float32)
    y, saved = linear_forward(p, values.astype(np.float32), nothing)
    assert y.shape == (0, 7)
    dx, dvalues, db = linear_backward(p, values.astype(np.float32), saved, y)
    assert dx is not None and dvalues is not None and db is not None
    assert dx.shape == (0, 9) and not dvalues.any() and not db.any()


def test_any_strides_are_right() -> None:
    problem = Problem(1, 12, 20, 4, 8)
    p, values = problem.pattern, problem.values
    x = np.asfortranarray(problem.x)
    reversed_twice = problem.x[::-1][::-1]
    read_only = problem.x.copy()
    read_only.flags.writeable = False
    expected = reference.forward(p, values, problem.x)
    for same in (x, reversed_twice, read_only):
        close(linear(p, values, same), expected)
    spread = np.repeat(values, 2)[::2]
    close(linear(p, spread, problem.x), expected)


def test_wrong_arguments_are_named() -> None:
    problem = Problem(0, 6, 5, 1, 8)
    p, values, x = problem.pattern, problem.values, problem.x
    blocked = checked.pack(x)
    with pytest.raises(TypeError, match="x must be a float32 array, got float64"):
        checked.pack(x.astype(np.float64))
    with pytest.raises(TypeError, match="x must be a float32 array, got list"):
        checked.pack([[1.0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x must have 2 dimensions, got shape \(5,\)"):
        checked.pack(x[0])
    with pytest.raises(ValueError, match="tile must be one of"):
        checked.pack(x, tile=7)
    with pytest.raises(ValueError, match="batch must be positive, got 0"):
        checked.pack(x[:0])
    with pytest.raises(ValueError, match="does not hold a batch of 9"):
        checked.forward(p, values, blocked, 9)
    with pytest.raises(ValueError, match="does not hold a batch of 0"):
        checked.unpack(blocked, 0)
    with pytest.raises(ValueError, match="x must have 5 features"):
        checked.forward(p, values, checked.pack(problem.dy), 8)
    with pytest.raises(ValueError, match="values must be"):
        checked.forward(p, values[: p.size - 1], blocked, 8)
    with pytest.raises(ValueError, match="bias must have 6 elements, got 5"):
        checked.forward(p, values, blocked, 8, problem.bias[:5])
    with pytest.raises(ValueError, match="out must be a writable C-contiguous array"):
        checked.forward(p, values, blocked, 8, out=np.empty((1, 6, 16), np.float32))
    with pytest.raises(ValueError, match="out must be a writable C-contiguous array"):
        checked.pack(x, out=np.empty((1, 8, 5), np.float32).transpose(0, 2, 1))
    with pytest.raises(TypeError, match="out must be a float32 array, got float64"):
        checked.grad_bias(blocked, 8, out=np.empty(5))
    with pytest.raises(ValueError, match="x has tiles of 8 samples, dy of 16"):
        checked.grad_values(p, blocked, checked.pack(problem.dy, tile=16), 8)
    with pytest.raises(ValueError, match="capacity must be at least"):
        checked.grad_values(p, blocked, checked.pack(problem.dy), 8, capacity=1)
    with pytest.raises(ValueError, match="method must be auto, gather or scatter, got 'other'"):
        checked.grad_input(p, values, checked.pack(problem.dy), 8, method="other")
    with pytest.raises(ValueError, match="activation must be relu or tanh, got 'gelu'"):
        checked.activate("gelu", x)
    with pytest.raises(ValueError, match="dy and y must have one shape"):
        checked.activate_backward("relu", x, x[:1])
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        checked.forward(p, values, blocked, 8, threads=0)
    with pytest.raises(ValueError, match=r"x must be \(batch, 5\), got \(8, 6\)"):
        linear(p, values, problem.dy)
    with pytest.raises(TypeError, match="dtypes must agree, got x float32, values float64"):
        linear(p, values.astype(np.float64), x)
    with pytest.raises(TypeError, match="x must be float32 or float64, got int64"):
        linear(p, values, x.astype(np.int64))
    with pytest.raises(ValueError, match=r"dy must be \(batch, 6\), got \(8, 5\)"):
        linear_backward(p, values, blocked, x)
    with pytest.raises(ValueError, match=r"saved must be \(0, 5\) for dy \(0, 6\), got"):
        linear_backward(p, values, blocked, problem.dy[:0])
    with pytest.raises(ValueError, match="does not hold a batch of 9"):
        linear_backward(p, values, blocked, np.zeros((9, 6), np.float32))
    with pytest.raises(ValueError, match="saved must have tiles of"):
        linear_backward(p, values, np.zeros((1, 5, 9), np.float32), problem.dy)


@pytest.mark.parametrize("density", [0.01, 0.2])
def test_wide_results_of_pairs_are_added_range_by_range(density: float) -> None:
    problem = Problem(0, 21, 2500, 2, 70, density=density, ablated=0.2)
    pattern, tile = problem.pattern, isa.host().tiles[-1]
    ranges = plan.scattered_parts(pattern, tile, 1)
    assert ranges == (1 if density < 0.1 else -(-2500 * tile * 4 // (256 << 10)))
    assert plan.scattered_parts(pattern, tile, 4) % 4 == 0
    check_steps(problem)
    check_layer(problem)
