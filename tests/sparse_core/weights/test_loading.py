"""States that were saved in another form: of a dense network, of the other backend, with noise."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.checks import InputError
from sparse_core.weights.tensor import SparseTensor
from tests.sparse_core.networks import built, mlp, steps, train

BACKENDS = pytest.mark.parametrize("backend", ["masked", "condensed"])

CASES = {
    "unstructured": dict(method="rigl", sparsity=0.6),
    "constant fan-in": dict(method="srigl", sparsity=0.6),
    "groups": dict(method="srigl", sparsity=0.6, group=4),
    "blocks": dict(method="rigl", sparsity=0.5, structure="4x4"),
}


def dense_and_sparse(case: str, backend: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    net, dense = mlp(12, 18, 16, 4), mlp(12, 18, 16, 4)
    sparsify(net, SparseConfig(**CASES[case], backend=backend))
    return net, dense


@BACKENDS
@pytest.mark.parametrize("case", CASES)
def test_active_weights_take_the_values_of_a_dense_state(case, backend):
    net, dense = dense_and_sparse(case, backend)
    before = [tensor.active().clone() for tensor in net.sparse_engine.tensors]
    told = net.load_state_dict(dense.state_dict(), strict=False)
    assert told.unexpected_keys == []
    assert not any(key.endswith((".weight", ".values", ".bias")) for key in told.missing_keys)
    for tensor, active in zip(net.sparse_engine.tensors, before, strict=True):
        given = dense.get_parameter(tensor.name)
        assert torch.equal(tensor.active(), active)
        assert torch.equal(tensor.values(), given * active)
        given.data.mul_(active)
    for layer, given in zip(net[::2], dense[::2], strict=True):
        assert torch.equal(layer.bias, given.bias)
    x = torch.randn(5, 12)
    torch.testing.assert_close(net(x), dense(x))
    with pytest.raises(RuntimeError, match=r"Missing key\(s\)"):
        net.load_state_dict(dense.state_dict())


@pytest.mark.filterwarnings("ignore:Layers that stay masked")
@BACKENDS
def test_dense_weights_of_an_embedding_and_a_convolution(backend):
    def net():
        return nn.ModuleList([nn.Embedding(9, 6, padding_idx=1), nn.Conv2d(3, 4, 3)])

    sparse, dense = net(), net()
    config = SparseConfig(method="rigl", sparsity=0.5, embeddings=True, backend=backend)
    engine = sparsify(sparse, config)
    assert sparse.load_state_dict(dense.state_dict(), strict=False).unexpected_keys == []
    for tensor in engine.tensors:
        given = dense.get_parameter(tensor.name).reshape(tensor.rows, -1)
        assert torch.equal(tensor.values(), given * tensor.active())


@pytest.mark.parametrize(("there", "here"), [("masked", "condensed"), ("condensed", "masked")])
@pytest.mark.parametrize("case", ["unstructured", "constant fan-in", "groups"])
def test_a_state_of_the_other_backend_brings_its_topology(case, there, here):
    """A capacity that the topology does not fill, after ablation for one, is no obstacle."""
    fields = CASES[case] | dict(update_every=2, ablation_threshold=0.9)
    fields = fields if case != "unstructured" else CASES[case] | dict(update_every=2)
    net, optimizer, engine = built(fields | dict(backend=there), (12, 18, 16, 4))
    train(net, optimizer, range(6))
    other, new, twin = built(fields | dict(backend=here), (12, 18, 16, 4), seed=5)
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    new.load_state_dict(torch.optim.Adam(other.parameters()).state_dict())
    for ours, theirs in zip(twin.tensors, engine.tensors, strict=True):
        assert torch.equal(ours.active(), theirs.active())
        assert torch.equal(ours.values(), theirs.values())
        assert torch.equal(ours.seen(), theirs.seen())
    assert (twin.steps, twin.updates) == (6, 3)
    x = torch.randn(5, 12)
    torch.testing.assert_close(other(x), net(x))
    train(other, new, range(6, 10))
    assert twin.updates == 5


def test_a_weight_of_another_shape_leaves_a_condensed_layer_as_it_was():
    net, _ = dense_and_sparse("groups", "condensed")
    before = copy.deepcopy(net[0].state_dict())
    with pytest.raises(RuntimeError, match=r"size mismatch for weight: \(3, 12\) there"):
        net[0].load_state_dict({"weight": torch.ones(3, 12)}, strict=False)
    cut = {"weight": torch.ones(18, 12), "weight_mask": torch.eye(18, 12)}
    with pytest.raises(RuntimeError, match="rows 0 and 1 are of one group of 4"):
        net[0].load_state_dict(cut, strict=False)
    full = {"weight": torch.ones(18, 12), "weight_mask": torch.ones(18, 12)}
    with pytest.raises(RuntimeError, match=r"needs 240 values, there is room for \d+"):
        net[0].load_state_dict(full, strict=False)
    assert all(torch.equal(net[0].state_dict()[key], value) for key, value in before.items())


def noisy(net: nn.Module) -> dict[str, torch.Tensor]:
    noise = {key: value + torch.randn_like(value) for key, value in net.named_parameters()}
    return {**net.state_dict(), **noise}


@BACKENDS
@pytest.mark.parametrize("method", ["static", "set", "rigl", "srigl", "granet", "mest"])
def test_inactive_weights_are_zero_after_a_load_of_noise(method, backend):
    net, optimizer, engine = built(
        dict(method=method, sparsity=0.7, update_every=2, horizon=20, backend=backend)
    )
    steps(net, optimizer, 5)
    net.load_state_dict(noisy(net))
    assert all(zero_outside(tensor) for tensor in engine.tensors)
    state = noisy(net)
    net.load_state_dict({key: state[key] for key in ("0.bias", *state)[:2]}, strict=False)
    assert all(zero_outside(tensor) for tensor in engine.tensors)


def zero_outside(tensor: SparseTensor) -> bool:
    return not bool(tensor.values()[~tensor.active()].any())


@pytest.mark.parametrize("method", ["topkast", "wsn"])
def test_weights_that_keep_values_outside_the_mask_are_loaded_as_they_are(method):
    net, optimizer, engine = built(dict(method=method, sparsity=0.7, update_every=2))
    steps(net, optimizer, 3)
    state = noisy(net)
    net.load_state_dict(state)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in state.items())
    assert not any(zero_outside(tensor) for tensor in engine.tensors)


def part_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """All but the last layer, as a new task with other actions wants it."""
    return {key: value for key, value in net.state_dict().items() if not key.startswith("4.")}


@BACKENDS
@pytest.mark.parametrize("method", ["static", "rigl", "mest"])
def test_a_part_with_another_budget_is_refused_and_nothing_is_changed(method, backend):
    """ERK gives the output layer a share: with 9 outputs instead of 2 the others get less."""
    fields = dict(method=method, sparsity=0.8, backend=backend)
    small, *_ = built(fields, (12, 24, 24, 2))
    large, _, engine = built(fields, (12, 24, 24, 9), seed=1)
    there, here = (net.sparse_engine.tensors[1].budget for net in (small, large))
    assert there != here
    before = copy.deepcopy(large.state_dict())
    with pytest.raises(InputError) as caught:
        large.load_state_dict(part_of(small), strict=False)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("layer '0.weight': the state has ")
    assert "distribution='uniform'" in line and "dense=('output',)" in line
    counts = [small.sparse_engine.tensors[0].count(), engine.tensors[0].count()]
    assert f"has {counts[0]} active weights, this network has {counts[1]}" in line
    assert all(torch.equal(large.state_dict()[key], value) for key, value in before.items())


@BACKENDS
@pytest.mark.parametrize(
    "way",
    [
        dict(distribution="uniform"),
        dict(dense=("output",)),
        dict(layer_sparsity=(("*", 0.8),)),
        dict(method="srigl", distribution="uniform"),
    ],
)
def test_a_part_with_the_same_budgets_is_loaded(way, backend):
    fields = dict(method="static", sparsity=0.8, backend=backend) | way
    small, *_ = built(fields, (20, 20, 20, 2))
    large, _, engine = built(fields, (20, 20, 20, 9), seed=1)
    large.load_state_dict(part_of(small), strict=False)
    for ours, theirs in zip(engine.tensors[:2], small.sparse_engine.tensors, strict=False):
        assert torch.equal(ours.active(), theirs.active())
        assert torch.equal(ours.values(), theirs.values())
    assert [tensor.count() for tensor in engine.tensors] == [t.budget for t in engine.tensors]


@pytest.mark.parametrize("here", ["masked", "condensed"])
@BACKENDS
def test_a_whole_state_of_another_sparsity_is_refused(backend, here):
    net, *_ = built(dict(method="rigl", sparsity=0.7, backend=backend))
    other, *_ = built(dict(method="rigl", sparsity=0.8, backend=here))
    with pytest.raises(InputError, match=r"layer '0.weight': the state has \d+ active weights"):
        other.load_state_dict(net.state_dict())


@pytest.mark.parametrize("method", ["gmp", "gse", "snfs"])
def test_where_weights_move_between_layers_the_sum_counts(method):
    fields = dict(method=method, sparsity=0.7, horizon=20, update_every=2)
    fields |= {} if method == "snfs" else dict(scope="global")
    net, optimizer, engine = built(fields)
    steps(net, optimizer, 20)
    budgets = [tensor.budget for tensor in engine.tensors]
    assert [tensor.count() for tensor in engine.tensors] != budgets
    twin, *_ = built(fields)
    twin.load_state_dict(net.state_dict())
    other, *_ = built(dict(method="static", sparsity=0.8))
    with pytest.raises(InputError, match=r"'0.weight', '2.weight', '4.weight': with the state's"):
        twin.load_state_dict(other.state_dict(), strict=False)


ANY_TIME = {
    "srigl": dict(method="srigl", ablation_threshold=0.9),
    "groups": dict(method="srigl", group=4, ablation_threshold=0.9),
    "blocks": dict(method="rigl", structure="4x4"),
    "neurons": dict(method="set", structure="neurons"),
    "mest": dict(method="mest", slack=0.3),
    "mest in blocks": dict(method="mest", slack=0.3, structure="2x2"),
    "granet": dict(method="granet"),
    "gmp with a fan-in": dict(method="gmp", structure="constant_fan_in"),
    "pattern": dict(method="rigl", structure="1:4", sparsity=0.75),
    "one shot": dict(method="one_shot", scope="global"),
}


@pytest.mark.parametrize("case", ANY_TIME)
def test_a_state_of_any_time_of_a_training_is_loaded(case):
    fields = dict(sparsity=0.7, update_every=2, horizon=14) | ANY_TIME[case]
    net, optimizer, _ = built(fields, (13, 18, 17, 5))
    twin, *_ = built(fields, (13, 18, 17, 5), seed=3)
    for step in range(15):
        twin.load_state_dict(net.state_dict())
        steps(net, optimizer, 1, shape=(6, 13), start=step)


def test_a_refusal_names_the_layer_where_the_network_is_a_part_of_another():
    net, *_ = built(dict(method="static", sparsity=0.7))
    other, *_ = built(dict(method="static", sparsity=0.8))
    whole = nn.ModuleDict({"net": net})
    with pytest.raises(InputError, match=r"layer '0.weight': the state has"):
        whole.load_state_dict(nn.ModuleDict({"net": other}).state_dict())
    assert copy.deepcopy(net).load_state_dict(net.state_dict())


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_numbers_that_are_no_topology_are_not_taken_for_one(backend):
    """Stable-Baselines3's own tests write random numbers into every entry of a state."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    sparsify(net, SparseConfig(method="rigl", sparsity=0.8, backend=backend))
    state = {name: torch.rand(value.shape) for name, value in net.state_dict().items()}
    net.load_state_dict(state)
    for name, value in net.named_parameters():
        if backend == "masked" or name.endswith("bias"):  # slots without a column hold zeros
            assert torch.equal(value, state[name]), name
