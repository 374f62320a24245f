"""A tape makes the calls that were put on it, in order, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from sparse_core.kernels import Pattern, checked, unchecked
from sparse_core.kernels.jit import kernel, once
from sparse_core.step import products
from sparse_core.step.arrays import add_kernel
from sparse_core.step.tape import STOP, Tape


@once
def counting():
    stop = STOP

    @kernel("void(int64[::1], int64, float32, float64, int64[::1])")
    def count(total, most, single, double, control):
        total[0] += 1
        if total[0] >= most or single != np.float32(0.1) or double != 0.1:
            control[stop] = 1

    return count


def test_calls_are_made_in_order_over_and_over():
    tape, total, seen = Tape(), np.zeros(4, np.float32), []
    one = np.ones(4, np.float32)
    tape.call(add_kernel(), total, one, total)
    tape.do(lambda: seen.append(float(total[0])))
    tape.call(add_kernel(), total, total, total)
    assert tape.run(3) == 3
    assert seen == [1.0, 3.0, 7.0]
    assert np.array_equal(total, np.full(4, 14, np.float32))


@pytest.mark.parametrize("between", [False, True])
def test_a_kernel_ends_the_run(between):
    tape, total = Tape(), np.zeros(1, np.int64)
    after = np.zeros(1, np.float32)
    tape.call(counting(), total, 3, 0.1, 0.1, tape.control)
    if between:
        tape.do(lambda: None)
    tape.call(add_kernel(), after, np.ones(1, np.float32), after)
    assert tape.run(10) == 2
    assert (total[0], after[0]) == (3, 2)


def test_other_arguments_are_taken():
    tape, out = Tape(), np.zeros(3, np.float32)
    call = tape.call(add_kernel(), out, out, out)
    call.take(np.ones(3, np.float32), np.ones(3, np.float32), out)
    tape.run()
    assert np.array_equal(out, [2, 2, 2])


def test_a_part_of_a_tape_is_run():
    tape, total, one = Tape(), np.zeros(1, np.float32), np.ones(1, np.float32)
    tape.call(add_kernel(), total, one, total)
    begin = tape.mark()
    tape.call(add_kernel(), total, total, total)
    end = tape.mark()
    tape.do(lambda: total.__imul__(10))
    assert (tape.run(), float(total[0])) == (1, 20)
    assert (tape.run(2, begin, end), float(total[0])) == (2, 80)
    assert (tape.run(1, None, begin), float(total[0])) == (1, 81)
    assert (tape.run(1, end), float(total[0])) == (1, 810)


def test_sections_are_laid_anew_where_their_layers_have_changed():
    tape, total = Tape(), np.zeros(1, np.float32)
    sizes = {"first": 1.0, "second": 10.0}

    def add(name, times=1):
        def lay(tape):
            for _ in range(times):
                tape.call(add_kernel(), total, np.full(1, sizes[name], np.float32), total)

        tape.lay([name], lay)

    add("first"), add("second", 2)
    tape.run()
    assert total[0] == 21
    sizes.update(first=2.0, second=20.0)
    tape.renew(["first"])
    tape.run()
    assert total[0] == 21 + 22
    tape.renew(["second"])
    tape.run()
    assert total[0] == 43 + 42


@pytest.mark.parametrize(
    "wrong", [np.zeros(3), np.zeros((3, 1), np.float32), np.zeros(6, np.float32)[::2]]
)
def test_wrong_arrays_are_refused(wrong):
    right = np.zeros(3, np.float32)
    with pytest.raises(TypeError, match="a kernel takes float32:1, got"):
        Tape().call(add_kernel(), right, wrong, right)
    with pytest.raises(TypeError, match="a kernel takes 3 arguments, got 2"):
        Tape().call(add_kernel(), right, right)


@pytest.mark.parametrize("group", [1, 4])
def test_products_are_those_of_single_calls_to_the_bit(group):
    batch = 11
    random = np.random.default_rng(group)
    rows = np.repeat(random.random((9, 37)) < 0.3, group, axis=0)
    pattern = Pattern.from_mask(rows, group)
    values = random.standard_normal(pattern.size).astype(np.float32)
    bias = random.standard_normal(9 * group).astype(np.float32)
    x = checked.pack(random.standard_normal((batch, 37)).astype(np.float32))
    dy = checked.pack(random.standard_normal((batch, 9 * group)).astype(np.float32))
    tiles, _, tile = x.shape
    samples, gather = tiles * tile, group == 1
    tape = Tape()
    mine = [np.empty_like(each) for each in (dy, x, values, bias)]
    products.forward(tape, pattern, values, x, bias, mine[0], True, 1)
    products.grad_input(tape, pattern, values, dy, mine[1], 1)
    products.grad_values(tape, pattern, x, dy, mine[2], mine[3], 1)
    tape.run()
    theirs = [np.empty_like(each) for each in mine]
    shape = pattern, tiles, tile, samples
    unchecked.forward(*shape, True, 1)(values, x, bias, theirs[0], samples)
    unchecked.grad_input(*shape, gather, 1)(values, dy, theirs[1], samples)
    unchecked.grad_values(pattern, tile, samples, 1)(x, dy, *theirs[2:])
    for one, other in zip(mine, theirs, strict=True):
        assert np.array_equal(one, other)
