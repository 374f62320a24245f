"""Records and tables of the benchmarks: useful operations, fractions of the peak."""

from __future__ import annotations

import pytest

from sweeps.bench import contestants, modules
from sweeps.bench.timing import records, table

MEDIANS = {"dense": 2000.0, "condensed:4": 250.0}
WORK = {"dense": 100e6, "condensed:4": 10e6}


def test_a_rate_is_useful_operations_over_time():
    dense, condensed = records("layer", (10, 20), 256, 0.9, 1, MEDIANS, WORK, 200.0)
    # 100 million operations in 2 ms are 50 GFLOP/s, a quarter of 200.
    assert (dense.gflops, dense.of_peak) == (50.0, 0.25)
    assert (condensed.gflops, condensed.of_peak) == (40.0, 0.2)
    assert (condensed.ratio_to_dense, condensed.group) == (8.0, 4)
    assert condensed.row()["of_peak"] == 0.2 and "bytes" not in condensed.row()


def test_a_line_says_ratio_rate_and_fraction():
    text = table(records("layer", (10, 20), 256, 0.9, 1, MEDIANS, WORK, 200.0))
    assert "dense 2000us (50.0 GFLOP/s, 25% of peak)" in text
    assert "condensed g=4 250us (x8.00, 40.0 GFLOP/s, 20% of peak)" in text


def test_useful_operations_of_kernels_are_those_of_active_weights():
    layer = contestants.Layer(20, 8, 3, 0.9, (1, 4))
    names = ["dense", "half_width", "torch_csr", "sparselab", "condensed:4", "condensed_gather:1"]
    # 20 x 8 weights, 20 x 4, and two inputs for each of eight outputs.
    weights = [160, 80, 16, 16, 16, 16]
    assert layer.work(names, 3) == {n: 2 * 3 * 3 * w for n, w in zip(names, weights, strict=True)}
    chain = contestants.Chain(10, 3, 0.8, (1, 2))
    assert chain.work(["dense", "condensed:2"]) == {
        "dense": 2 * 3 * 3 * 300,
        "condensed:2": 2 * 3 * 3 * 60,
    }


def test_each_product_alone_is_what_it_is_called():
    made = contestants.Layer(20, 8, 5, 0.9, (1, 4)).products()
    assert list(made) == ["y", "dx", "dw"]
    for calls in made.values():
        assert list(calls) == ["dense", "condensed:1", "condensed:4"]
    shapes = {name: tuple(calls["dense"]().shape) for name, calls in made.items()}
    assert shapes == {"y": (5, 8), "dx": (5, 20), "dw": (8, 20)}


@pytest.mark.filterwarnings("ignore:Constant fan-in at sparsity=0.9")
@pytest.mark.parametrize(("input_gradient", "products"), [(True, (3, 3)), (False, (2, 3))])
def test_useful_operations_of_modules(input_gradient, products):
    nets = modules.contestants((10, 20, 10), 0.9, (1,), peers=False)
    nets["sparselab"] = nets["dense"]  # whatever another library makes of it
    first, second = products
    layers = {
        "dense": (200, 200),
        "half_width": (100, 50),
        **dict.fromkeys(("masked", "condensed:1", "sparselab"), (20, 20)),
    }
    assert modules.training_work(nets, 7, input_gradient=input_gradient) == {
        name: 2 * 7 * (first * a + second * b) for name, (a, b) in layers.items()
    }
    assert modules.forward_work(nets, 7) == {n: 2 * 7 * sum(w) for n, w in layers.items()}
