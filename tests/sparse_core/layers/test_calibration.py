"""Costs measured on this machine: the fit, the cache, and what must not be touched."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, astuple
from itertools import pairwise

import pytest
import torch

from sparse_core.kernels import jit
from sparse_core.layers import calibration
from sparse_core.layers.calibration import CHAINS, DENSITY, HALF_DENSE, OBLONGS, SQUARES, fitted
from sparse_core.layers.costs import Costs, shipped

TRUE = Costs(9e4, 15.0, 200.0, 12e4, 24.0, 80.0, 3e4, 600.0)
OTHERS = Costs(*(1.0 * n for n in range(8)))


def times_of(costs):
    """Seconds of all that is measured, by given costs; ReLU costs 10 microseconds."""
    times = {}
    for cols, rows in (*SQUARES, *OBLONGS):
        times["masked", (cols, rows), 1.0] = costs.masked(rows, cols)
        times["condensed", (cols, rows), DENSITY] = costs.condensed(rows, cols, DENSITY)
    for cols, rows in HALF_DENSE:
        times["condensed", (cols, rows), 0.5] = costs.condensed(rows, cols, 0.5)
    for n in CHAINS:
        times["masked", (n,) * 4, DENSITY] = 3 * costs.masked(n, n) + 2 * 10_000
        joints = 2 * (costs.joint_call + costs.joint_feature * n - 10_000)
        times["condensed", (n,) * 4, DENSITY] = 3 * costs.condensed(n, n, DENSITY) - joints
    return {kind: 1e-9 * time for kind, time in times.items()}


def test_the_fit_finds_the_costs_that_made_the_times():
    assert astuple(fitted(times_of(TRUE))) == pytest.approx(astuple(TRUE))
    double = astuple(fitted(times_of(TRUE), 2.0))
    calls = (1, 2, 2, 1, 2, 2, 1, 2)
    assert double == pytest.approx([a * b for a, b in zip(astuple(TRUE), calls, strict=True)])


def test_no_cost_is_negative():
    times = times_of(TRUE)
    for kind in times:  # nothing but weights counts
        times[kind] = 1e-9 * sum(a * b * kind[2] for a, b in pairwise(kind[1]))
    found = fitted(times)
    assert min(astuple(found)) == 0
    assert (found.masked_weight, found.condensed_weight) == pytest.approx((1, 1))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache in which costs are kept, and a count of measurements."""
    monkeypatch.setenv(calibration.COSTS_VARIABLE, "measured")
    monkeypatch.setenv(jit.CACHE_VARIABLE, str(tmp_path))
    calls = []

    def measured(batch, group):
        calls.append((batch, group))
        return TRUE

    monkeypatch.setattr(calibration, "measured", measured)
    calibration._kept.cache_clear()
    yield calls
    calibration._kept.cache_clear()


def kept_files(tmp_path):
    return sorted((tmp_path / "costs").iterdir())


def test_costs_are_measured_once_a_machine_batch_and_group(cache, tmp_path):
    for _ in range(2):
        assert calibration.costs(64, 4) == TRUE
        calibration._kept.cache_clear()  # as another process
    assert cache == [(64, 4)]
    (path,) = kept_files(tmp_path)
    assert Costs(**json.loads(path.read_text())) == TRUE
    path.write_text(json.dumps(asdict(OTHERS)))
    assert calibration.costs(64, 4) == OTHERS
    assert calibration.costs(32, 4) == TRUE and cache == [(64, 4), (32, 4)]


def test_a_file_that_is_torn_is_measured_again(cache, tmp_path):
    calibration.costs(64, 4)
    (path,) = kept_files(tmp_path)
    path.write_text(path.read_text()[:9])
    calibration._kept.cache_clear()
    assert calibration.costs(64, 4) == TRUE and len(cache) == 2
    assert kept_files(tmp_path) == [path] and Costs(**json.loads(path.read_text())) == TRUE


def test_whoever_measures_first_decides_for_all(cache, tmp_path, monkeypatch):
    """Two processes measure at once, each something else."""

    def slow(batch, group):
        path = tmp_path / calibration.place(f"{batch}-{group}-{torch.get_num_threads()}")
        path.parent.mkdir()
        path.write_text(json.dumps(asdict(OTHERS)))
        return TRUE

    monkeypatch.setattr(calibration, "measured", slow)
    assert calibration.costs(64, 4) == OTHERS
    assert len(kept_files(tmp_path)) == 1  # no temporary file is left


def test_where_links_are_not_to_be_had_costs_are_kept_all_the_same(cache, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    assert calibration.costs(64, 4) == TRUE and len(kept_files(tmp_path)) == 1


def test_without_a_place_to_keep_them_nothing_is_measured(cache, monkeypatch):
    monkeypatch.setenv(jit.CACHE_VARIABLE, "")
    assert calibration.costs(64, 4) == shipped(64, 4) and cache == []


def test_shipped_costs_can_be_asked_for(cache, monkeypatch):
    monkeypatch.setenv(calibration.COSTS_VARIABLE, "shipped")
    assert calibration.costs(64, 4) == shipped(64, 4) and cache == []
    monkeypatch.setenv(calibration.COSTS_VARIABLE, "guessed")
    with pytest.raises(ValueError, match="SPARSE_CORE_COSTS='guessed': must be one of measured, "):
        calibration.costs(64, 4)


def test_a_measurement_leaves_random_streams_and_settings_alone(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    monkeypatch.setattr(calibration, "BLOCK", 1e-6)
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            found = calibration.measured(1024, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert min(astuple(found)) >= 0 and found.masked_weight > 0
