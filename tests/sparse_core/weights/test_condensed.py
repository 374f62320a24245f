"""The condensed backend visits the topologies of the masked one and computes the same."""

import copy
import pickle

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.weights.condensed import CondensedTensor
from tests.sparse_core.networks import mlp, train
from tests.sparse_core.ties import Twins

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-4),
    "adam": lambda p: torch.optim.Adam(p, lr=3e-3),
}


def pair(optimizer, dtype=torch.float32, sizes=(12, 40, 24, 4), **fields):
    """A masked and a condensed net of one seed."""
    nets = []
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = mlp(*sizes).to(dtype)
        made = OPTIMIZERS[optimizer](net.parameters())
        config = SparseConfig(**{"backend": backend, "update_every": 10, "horizon": 400} | fields)
        nets.append((net, made, sparsify(net, config, made)))
    return nets


CENTRAL = ("set", "rigl", "srigl", "gse")


METHODS = [
    *(dict(method=method) for method in CENTRAL),
    dict(method="static"),
    dict(method="srigl", group=4, ablation_threshold=0.5),
    dict(method="srigl", group=2, ablation=False),
    dict(method="gse", growth="sampled_graest"),
    dict(method="mest", slack=0.1),
    dict(method="rigl", structure="neurons", sparsity=0.5),
    dict(method="rigl", optimizer_state="layer_mean"),
    dict(method="gmp"),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("fields", METHODS, ids=lambda f: "-".join(map(str, f.values())))
def test_both_backends_train_alike(fields, optimizer):
    """In float64, where rounding decides nothing: the same topologies throughout."""
    fields = {"sparsity": 0.8} | fields
    (net, made, engine), (twin, twin_made, twin_engine) = pair(optimizer, torch.float64, **fields)
    central = fields["method"] in CENTRAL and len(fields) == 2
    for step in range(0, 200 if central else 50, 10):
        train(net, made, range(step, step + 10))
        train(twin, twin_made, range(step, step + 10))
        for one, other in zip(engine.tensors, twin_engine.tensors, strict=True):
            assert torch.equal(one.active(), other.active()), f"{one.name} at step {step + 10}"
            torch.testing.assert_close(one.values(), other.values(), rtol=1e-7, atol=1e-9)
    assert type(twin) is CondensedSequential
    assert engine.updates == twin_engine.updates > 0 or fields["method"] == "static"
    if engine.tensors[0].seen() is not None:
        assert torch.equal(engine.tensors[0].seen(), twin_engine.tensors[0].seen())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("fields", METHODS, ids=lambda f: "-".join(map(str, f.values())))
def test_both_backends_train_alike_on_the_kernels(fields, optimizer):
    """In float32: alike to its rounding, until a tie parts them."""
    (net, made, engine), (twin, twin_made, twin_engine) = pair(
        optimizer, **{"sparsity": 0.8} | fields
    )
    twins = Twins()
    for step in range(0, 50, 10):
        train(net, made, range(step, step + 10))
        train(twin, twin_made, range(step, step + 10))
        if not twins.tensors_alike(engine.tensors, twin_engine.tensors):
            break
        for one, other in zip(engine.tensors, twin_engine.tensors, strict=True):
            torch.testing.assert_close(one.values(), other.values(), rtol=2e-3, atol=2e-4)


def whole_numbers(shape, seed):
    """Small whole numbers: sums of their products are exact in float32, in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=generator).float()


SELECTING = [f for f in METHODS if f["method"] not in ("static", "gmp")]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fields", SELECTING, ids=lambda f: "-".join(map(str, f.values())))
def test_where_products_are_exact_both_backends_select_the_same(fields, seed):
    """One update from whole numbers, full of ties that are broken by position in both."""
    nets = pair("sgd", **{"sparsity": 0.8, "seed": seed, "update_every": 1} | fields)
    for net, optimizer, engine in nets:
        optimizer.param_groups[0].update(lr=0.0, weight_decay=0.0)
        with torch.no_grad():
            for index, tensor in enumerate(engine.tensors):
                tensor.write(whole_numbers((tensor.rows, tensor.cols), 10 * seed + index))
                tensor.bias.copy_(whole_numbers(tensor.bias.shape, 100 + index))
        x, target = whole_numbers((8, 12), 7 + seed), whole_numbers((8, 4), 8 + seed)
        optimizer.zero_grad()
        (net(x) * target).sum().backward()
        optimizer.step()
        assert engine.updates == 1
    for one, other in zip(nets[0][2].tensors, nets[1][2].tensors, strict=True):
        assert torch.equal(one.active(), other.active()), one.name
        assert torch.equal(one.values(), other.values())


def test_in_double_precision_both_agree_to_rounding():
    (net, made, _), (twin, twin_made, _) = pair("adam", torch.float64, method="rigl", sparsity=0.8)
    x = torch.randn(7, 12, dtype=torch.float64)
    for step in range(40):
        for model, optimizer in ((net, made), (twin, twin_made)):
            data = torch.randn(
                9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(step)
            )
            optimizer.zero_grad()
            model(data).pow(2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(net(x), twin(x), rtol=1e-9, atol=1e-11)


def state(net, optimizer):
    moments = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return [*net.state_dict().values(), *moments]


def test_copies_and_resumed_runs_are_bit_equal():
    _, (net, made, _) = pair("adam", method="srigl", sparsity=0.8)
    train(net, made, range(57))
    twins = [copy.deepcopy((net, made)), pickle.loads(pickle.dumps((net, made)))]
    saved = copy.deepcopy((net.state_dict(), made.state_dict()))
    _, (fresh, fresh_made, _) = pair("adam", method="srigl", sparsity=0.8)
    fresh.load_state_dict(saved[0])
    fresh_made.load_state_dict(saved[1])
    train(net, made, range(57, 100))
    for twin, optimizer in [*twins, (fresh, fresh_made)]:
        train(twin, optimizer, range(57, 100))
        assert all(map(torch.equal, state(net, made), state(twin, optimizer)))


def test_an_optimizer_with_a_past_keeps_its_moments_at_active_weights():
    torch.manual_seed(0)
    net = mlp(12, 16, 4)
    optimizer = torch.optim.Adam(net.parameters())
    train(net, optimizer, range(5))
    moments = optimizer.state[net[0].weight]["exp_avg"].clone()
    engine = sparsify(net, SparseConfig(method="static", backend="condensed"), optimizer)
    tensor = engine.tensors[0]
    stored = optimizer.state[net[0].values]["exp_avg"]
    assert torch.equal(stored, tensor.stored(moments))
    assert len(optimizer.param_groups[0]["params"]) == 4
    train(net, optimizer, range(5))
    assert optimizer.state[net[0].values]["step"] == 10


def test_an_optimizer_that_has_the_values_already_steps_them_once():
    """Avalanche adds a model's parameters to an optimizer that was made for the dense network."""
    net = mlp(12, 16, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    engine = sparsify(net, SparseConfig("static", sparsity=0.5, backend="condensed"))
    optimizer.add_param_group({"params": [t.weight for t in engine.tensors]})
    engine.attach(optimizer)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in net.parameters()}
    assert len(held) == len(list(net.parameters()))


def test_a_followers_condensed_topology_is_the_same():
    _, (net, made, engine) = pair("adam", method="srigl", sparsity=0.8)
    target = mlp(12, 40, 24, 4)
    engine.follow(target)
    for step in range(40):
        train(net, made, range(step, step + 1))
        with torch.no_grad():
            for own, theirs in zip(target.parameters(), net.parameters(), strict=True):
                own.lerp_(theirs, 0.2)
    assert engine.updates == 4
    for ours, theirs in zip(net[::2], target[::2], strict=True):
        assert torch.equal(ours.columns, theirs.columns)
        assert torch.equal(ours.lengths, theirs.lengths)
    torch.testing.assert_close(target(torch.ones(3, 12)), net(torch.ones(3, 12)), atol=0.3, rtol=1)


def test_parameters_never_change_their_shape_and_hold_little():
    _, (net, made, engine) = pair("adam", method="srigl", sparsity=0.9, sizes=(100, 64, 64, 10))
    before = [p.shape for p in net.parameters()]
    train(net, made, range(100), n_in=100)
    assert before == [p.shape for p in net.parameters()]
    for tensor in engine.tensors:
        assert isinstance(tensor, CondensedTensor)
        assert tensor.weight.numel() <= 1.2 * tensor.budget
        beyond = tensor.layer.pattern.size
        assert bool((tensor.weight[beyond:] == 0).all())


BAD_STATES = [
    ("columns", lambda t: t.fill_(99), "column 99, allowed are 0 to 11"),
    ("columns", lambda t: t.fill_(3), "column 3 more than once"),
    ("lengths", lambda t: t.fill_(13), "13 slots, allowed are 0 to 12"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BAD_STATES)
def test_a_spoilt_state_is_refused_and_changes_nothing(name, spoil, message):
    _, (net, _, _) = pair("sgd", method="srigl", sparsity=0.8)
    x = torch.randn(5, 12)
    before = net(x)
    spoilt = copy.deepcopy(net.state_dict())
    spoil(spoilt[f"0.{name}"])
    with pytest.raises(RuntimeError, match=message):
        net[0].load_state_dict({k[2:]: v for k, v in spoilt.items() if k.startswith("0.")})
    assert torch.equal(net(x), before)


def test_what_cannot_be_condensed_stays_masked():
    net = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(144, 10))
    with pytest.warns(UserWarning, match="stay masked .*: '0.weight' .a depthwise convolution"):
        engine = sparsify(net, SparseConfig(method="rigl", backend="condensed"))
    kinds = [type(tensor).__name__ for tensor in engine.tensors]
    assert kinds == ["MaskedTensor", "CondensedTensor"]
    assert type(net[2]) is CondensedLinear


@pytest.mark.parametrize(
    "fields",
    [
        dict(method="topkast"),
        dict(method="snfs"),
        dict(method="gse", scope="global"),
        dict(method="rigl", optimizer_state="keep"),
        dict(method="rigl", optimizer_state="freeze"),
        dict(method="srigl", group=3),
    ],
)
def test_what_needs_masks_is_refused(fields):
    with pytest.raises(ValueError, match="backend"):
        SparseConfig(backend="condensed", **fields)
