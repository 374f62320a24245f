import pytest

from sparse_core.config import SparseConfig
from sparse_core.schedule import Schedule


def schedule(**fields):
    return Schedule.of(SparseConfig(update_every=10, drop_fraction=0.4, **fields))


@pytest.mark.parametrize(
    ("decay", "at_half", "at_end"),
    [("cosine", 0.2, 0.0), ("linear", 0.2, 0.0), ("inverse_power", 0.05, 0.0)],
)
def test_fractions_fall_to_zero_at_the_stop(decay, at_half, at_end):
    falling = schedule(decay=decay, stop_at=0.75)
    assert falling.fraction(0, 400) == pytest.approx(0.4)
    assert falling.fraction(150, 400) == pytest.approx(at_half)
    assert falling.fraction(300, 400) == pytest.approx(at_end)
    assert falling.fraction(399, 400) == pytest.approx(at_end)


def test_a_constant_fraction_and_an_unknown_horizon():
    assert schedule(decay="constant").fraction(299, 400) == 0.4
    assert schedule().fraction(10_000, None) == 0.4


def test_updates_fall_on_multiples_before_the_stop():
    steps = [t for t in range(101) if schedule(stop_at=0.5).due(t, 100)]
    assert steps == [10, 20, 30, 40]
    assert [t for t in range(31) if schedule().due(t, None)] == [10, 20, 30]


def test_itop_never_stops_and_keeps_a_floor():
    itop = schedule(method="rigl_itop")
    assert [t for t in range(101) if itop.due(t, 50)] == list(range(10, 101, 10))
    assert itop.fraction(100, 100) == 0.005
    slower = schedule(method="rigl_itop", stop_at=0.5, decay="linear")
    assert slower.fraction(50, 100) == pytest.approx(0.2)
    little = Schedule.of(SparseConfig(method="rigl_itop", drop_fraction=0.002))
    assert little.fraction(100, 100) == 0.002


def test_pruning_follows_the_cubic_and_ends_exactly():
    gmp = schedule(method="gmp", stop_at=0.75, prune_from=0.25)
    assert [t for t in range(101) if gmp.due(t, 100)] == [30, 40, 50, 60, 70, 75]
    assert gmp.pruned(50, 100) == pytest.approx(1 - 0.5**3)
    assert gmp.pruned(75, 100) == 1.0
    assert not gmp.due(50, None)


def test_one_shot_prunes_once():
    shot = schedule(method="one_shot", prune_from=0.42)
    assert [t for t in range(1, 101) if shot.due(t, 100)] == [42]
    assert shot.pruned(42, 100) == 1.0


def test_sr_ste_is_due_at_every_step():
    ste = Schedule.of(SparseConfig(method="sr_ste", structure="2:4", sparsity=0.5))
    assert all(ste.due(t, 100) for t in range(1, 200))


def test_the_last_update_is_known():
    falling = schedule(stop_at=0.75)
    assert [t for t in range(10, 75, 10) if falling.last(t, 100)] == [70]
    assert not falling.last(70, None)
