import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparse_core import SparseConfig
from sparse_core.budgets import densities
from sparse_core.budgets.distributions import budgets, budgets_by_score
from sparse_core.budgets.patterns import structure_for
from sparse_core.budgets.selection import Selected, select
from sparse_core.budgets.shares import Share, allocate
from tests.sparse_core.networks import mlp


def shares_of(net, apart=None, **fields):
    config = SparseConfig(**fields)
    structure = structure_for(config.structure_in_force, config.group)
    return list(budgets(select(net), config, structure, apart).values())


@pytest.mark.parametrize(
    ("distribution", "shape", "expected"),
    [
        ("uniform", (10, 20), 1.0),
        ("er", (10, 20), 30 / 200),
        ("erk", (10, 20), 30 / 200),
        ("er", (8, 4, 3, 3), 12 / 32),
        ("erk", (8, 4, 3, 3), 18 / 288),
    ],
)
def test_unscaled_densities(distribution, shape, expected):
    weight = Selected("0.weight", nn.Identity(), "weight", "hidden", shape)
    assert getattr(densities, distribution)(weight) == pytest.approx(expected)


def test_uniform_gives_each_layer_its_fraction():
    assert shares_of(mlp(10, 20, 30), sparsity=0.9, distribution="uniform") == [20, 60]


def test_erk_by_hand():
    # Two layers, 10->20 and 20->30: wishes 30 and 50 of 800 weights, 80 are active.
    assert shares_of(mlp(10, 20, 30), sparsity=0.9) == [30, 50]


def test_erk_saturates_small_layers_and_shares_the_rest():
    # 100->100, 100->2: unscaled 200 and 102; at 0.9 the second would get 1020 * 102 / 302 > 200.
    assert shares_of(mlp(100, 100, 2), sparsity=0.9) == [820, 200]


def test_erk_shares_the_rest_in_proportion_beside_a_saturated_layer():
    # 60->60->30->2: wishes 120 : 90 : 32, of 1500 weights 620, 465 and 165 > 60; of the 60 that
    # the last can hold, 1440 are left for 120 : 90.
    assert shares_of(mlp(60, 60, 30, 2), sparsity=1 - 1500 / 5460) == [823, 617, 60]


def test_largest_remainder_by_hand():
    shares = [Share(name, 1.0, 0, 100) for name in "abc"]
    assert allocate(shares, 10, 0.9) == [4, 3, 3]
    shares = [Share("a", 1.5, 0, 100), Share("b", 2.6, 0, 100), Share("c", 5.9, 0, 100)]
    assert allocate(shares, 10, 0.9) == [1, 3, 6]


def test_layers_have_at_least_one_weight():
    # 10 weights for wishes 4, 102 and 200: the first is raised to 1, the others share 9.
    assert shares_of(mlp(2, 2, 100, 100), sparsity=0.999) == [1, 3, 6]


def test_constant_fan_in_has_the_budgets_of_any_other_structure():
    # 64->128->128->10 at 90 %: ERK wants 847.4, 1129.9 and 608.9 weights.
    plain = dict(method="srigl", sparsity=0.9, min_fan_in=1)
    assert shares_of(mlp(64, 128, 128, 10), **plain) == [847, 1130, 609]
    # A group of four has one column more or less; where one is smaller, all groups have.
    assert all(count % 4 == 0 for count in shares_of(mlp(64, 128, 128, 12), group=4, **plain))
    assert shares_of(mlp(64, 126, 128, 12), group=4, **plain)[0] % 126 == 0


def test_constant_fan_in_has_at_least_one_weight_a_neuron():
    counts = shares_of(mlp(17, 256, 256, 6), method="srigl", sparsity=0.98)
    assert counts[0] >= 256 and counts[1] >= 256 and counts[2] >= 6
    total = 17 * 256 + 256 * 256 + 256 * 6
    assert sum(counts) == round(0.02 * total)


FLOORS = [
    # 4->8->8->2 at 1/4: 8, 16 and 4 weights. The head pays nothing, the second layer at most 8:
    # two inputs cost just that, three would cost 16.
    (dict(min_fan_in=1), [8, 16, 4]),
    (dict(min_fan_in=2), [16, 8, 4]),
    (dict(min_fan_in=3), [16, 8, 4]),
    # At 1/2, of 16, 32 and 8 weights, it can pay 16; three inputs cost 8, all four 16.
    (dict(min_fan_in=3, sparsity=0.5), [24, 24, 8]),
    (dict(min_fan_in=4, sparsity=0.5), [32, 16, 8]),
    (dict(min_fan_in=8, sparsity=0.5), [32, 16, 8]),
    # Other structures, layers with a sparsity of their own and tasks beside each other have none.
    (dict(min_fan_in=8, method="rigl"), [8, 16, 4]),
    (dict(min_fan_in=8, layer_sparsity={"input": 0.75}), [8, 16, 4]),
    (dict(min_fan_in=8, apart=("output",)), [8, 16, 4]),
]


@pytest.mark.parametrize(("fields", "expected"), FLOORS)
def test_hidden_layers_of_more_inputs_pay_for_the_least_fan_in_of_the_inputs(fields, expected):
    fields = dict(method="srigl", sparsity=0.75, distribution="uniform") | fields
    assert shares_of(mlp(4, 8, 8, 2), fields.pop("apart", None), **fields) == expected


def test_a_head_keeps_its_inputs_where_inputs_cannot_have_theirs():
    # Acrobot's network at 95 %, uniform: when heads paid too, this one had 4 of its 8.
    fields = dict(method="srigl", sparsity=0.95, distribution="uniform")
    plain = shares_of(mlp(6, 64, 64, 3), min_fan_in=1, **fields)
    raised = shares_of(mlp(6, 64, 64, 3), **fields)
    assert raised[2] == plain[2] == 8
    assert raised[0] > 2 * plain[0] and sum(raised) == sum(plain)


def test_input_layers_of_one_size_are_raised_alike():
    a, b = (Share(name, 10, 4, 20, floor=20, inputs=2) for name in "ab")
    c = Share("c", 20, 4, 100, inputs=5)
    assert allocate([a, b, c], 40, 0.7) == [15, 15, 10]
    # One of fewer inputs comes first: 4 of its 6 come from c, 2 from b, which then needs 12 and
    # gets the 6 that c has left to give.
    a = Share("a", 10, 4, 16, floor=16, inputs=1)
    assert allocate([a, b, c], 40, 0.7) == [16, 14, 10]


BESIDE = [
    # 768, 144 and 24 weights at 1/5: 153.6, 28.8, 4.8, of 187 in all. Without tasks .8 is rounded
    # up; with tasks 5 x 29 > 144, and 5 x 154 > 768: the head takes what is left over.
    (dict(), None, [153, 29, 5]),
    (dict(), ("output",), [153, 28, 6]),
    (dict(), ("4",), [153, 28, 6]),
    # Without a head of its own nothing takes it: 185 of 187.
    (dict(), (), [153, 28, 4]),
    (dict(dense=("output",)), ("output",), [153, 28, 24]),
    (dict(dense=("output",)), None, [153, 29, 24]),
    # Exactly what fits is not less than what is asked for: 1/4 of 144 and of 24.
    (dict(sparsity=0.75), (), [192, 36, 6]),
    # 3 x 52 > 144 but 2 x 52 fit, as 2 x 51.84 do: rounded up all the same.
    (dict(sparsity=0.64), (), [276, 52, 9]),
    (dict(layer_sparsity={"2": 0.8}), None, [153, 29, 5]),
    (dict(layer_sparsity={"2": 0.8}), ("output",), [153, 28, 5]),
    (dict(method="srigl"), None, [153, 29, 5]),
    # 13 x 5 > 64 inputs, and tasks have equal fan-ins: 12 and 2, of which the head takes the rest.
    (dict(method="srigl"), ("output",), [144, 24, 19]),
]


@pytest.mark.parametrize(("fields", "apart", "expected"), BESIDE)
def test_budgets_of_tasks_beside_each_other_by_hand(fields, apart, expected):
    net = mlp(64, 12, 12, 2)
    fields = {"sparsity": 0.8, "distribution": "uniform"} | fields
    assert shares_of(net, apart, **fields) == expected


@given(
    sizes=st.lists(st.integers(10, 40), min_size=3, max_size=4),
    tasks=st.integers(2, 10),
    structure=st.sampled_from(["unstructured", "constant_fan_in", "2x2"]),
)
def test_as_many_tasks_fit_as_the_density_says(sizes, tasks, structure):
    net = mlp(*sizes, 20)
    fields = dict(sparsity=1 - 1 / tasks, distribution="uniform", structure=structure, method="set")
    counts = shares_of(net, ("output",), **fields)
    totals = [item.numel for item in select(net)]
    for count, total in zip(counts[:-1], totals[:-1], strict=True):
        assert tasks * count <= total
    if structure == "unstructured":
        assert sum(counts) == round(sum(totals) / tasks)


def test_infeasible_requests_name_the_layer_and_the_numbers():
    with pytest.raises(ValueError) as caught:
        shares_of(mlp(17, 256, 256, 6), method="srigl", sparsity=0.995)
    message = str(caught.value)
    assert "sparsity=0.995: leaves 357 weights" in message and "at least 518" in message
    assert "layer '0.weight' alone 256" in message


def test_dense_layers_outside_the_budget():
    counts = shares_of(mlp(10, 20, 20, 5), sparsity=0.9, distribution="uniform", dense=("input",))
    assert counts == [200, 40, 10]


def test_dense_layers_inside_the_budget_make_the_others_sparser():
    counts = shares_of(
        mlp(10, 20, 40, 5),
        sparsity=0.7,
        distribution="uniform",
        dense=("output",),
        dense_in_budget=True,
    )
    assert counts == [32, 128, 200]
    assert sum(counts) == round(0.3 * 1200)


def test_dense_layers_that_exceed_the_budget_are_an_error():
    with pytest.raises(ValueError, match=r"leaves 0 weights, but the layers need at least 2"):
        shares_of(mlp(10, 20, 40, 5), sparsity=0.9, dense=("output",), dense_in_budget=True)


def test_layers_with_a_sparsity_of_their_own_leave_the_equation():
    net = mlp(10, 20, 20, 5)
    counts = shares_of(
        net, sparsity=0.9, distribution="uniform", layer_sparsity={"2": 0.5, "output": 0.25}
    )
    assert counts == [20, 200, 75]


def test_first_matching_pattern_wins():
    counts = shares_of(mlp(10, 20, 20, 5), sparsity=0.9, layer_sparsity={"2*": 0.5, "hidden": 0.8})
    assert counts[1] == 200


def test_budgets_by_score_follow_the_scores():
    net = mlp(2, 2, 2)
    scores = {
        "0.weight": torch.tensor([[9.0, 8.0], [7.0, 6.0]]),
        "2.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    }
    assert budgets_by_score(select(net), 4, scores) == {"0.weight": 3, "2.weight": 1}
    scores["2.weight"] = torch.tensor([[9.5, 8.5], [7.5, 0.0]])
    assert budgets_by_score(select(net), 5, scores) == {"0.weight": 2, "2.weight": 3}
    scores["2.weight"] = torch.zeros(2, 2)
    assert budgets_by_score(select(net), 5, scores) == {"0.weight": 4, "2.weight": 1}


def test_n_of_m_patterns_do_not_exceed_a_budget_that_dense_layers_have_used_up():
    fields = dict(method="set", structure="2:4", sparsity=0.5, dense=("output",))
    assert shares_of(mlp(8, 4, 4), **fields) == [16, 16]
    with pytest.raises(ValueError, match="leaves 8 weights, but the layers need at least 16"):
        shares_of(mlp(8, 4, 4), dense_in_budget=True, **fields)


@given(
    wishes=st.lists(st.floats(0.01, 10), min_size=1, max_size=6),
    rows=st.lists(st.integers(1, 30), min_size=6, max_size=6),
    cols=st.lists(st.integers(1, 30), min_size=6, max_size=6),
    fraction=st.floats(0, 1),
)
def test_allocation_is_exact_and_within_bounds(wishes, rows, cols, fraction):
    shares = [
        Share(str(i), w, 1, r * c)
        for i, (w, r, c) in enumerate(zip(wishes, rows, cols))  # noqa: B905
    ]
    least, most = len(shares), sum(s.most for s in shares)
    total = round(least + fraction * (most - least))
    counts = allocate(shares, total, 0.5)
    assert sum(counts) == total
    assert all(s.least <= n <= s.most for s, n in zip(shares, counts, strict=True))


@given(
    rows=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    cols=st.integers(1, 20),
    fraction=st.floats(0, 1),
)
def test_quanta_are_kept_and_little_is_lost(rows, cols, fraction):
    shares = [Share(str(i), r * cols, r, r * cols, r) for i, r in enumerate(rows)]
    least, most = sum(rows), sum(rows) * cols
    total = round(least + fraction * (most - least))
    counts = allocate(shares, total, 0.5)
    assert all(n % s.quantum == 0 for s, n in zip(shares, counts, strict=True))
    assert all(s.least <= n <= s.most for s, n in zip(shares, counts, strict=True))
    assert total - max(rows) < sum(counts) <= total


def test_a_convolution_counts_its_kernel():
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2))
    items = select(net)
    assert [(item.rows, item.cols) for item in items] == [(8, 36), (8, 36)]
    assert shares_of(net, sparsity=0.75, distribution="uniform") == [72, 72]


def test_whole_neurons_are_never_taken_from_the_output():
    net = mlp(10, 20, 20, 5)
    counts = shares_of(net, method="set", structure="neurons", sparsity=0.5, distribution="uniform")
    assert counts == [100, 200, 100]
