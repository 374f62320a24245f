"""Embeddings under the engine: both backends train alike, budgets are exact, padding stays out."""

import copy
import pickle
from unittest.mock import patch

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, condense, sparsify
from sparse_core.budgets.saliency import grasp, magnitudes, snip
from sparse_core.budgets.selection import select
from sparse_core.layers import MaskedEmbedding
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.embedding import CondensedEmbedding
from sparse_core.metrics import exploration, neurons
from sparse_core.metrics.flops import FlopCounter, active_weights
from sparse_core.tickets import LotteryTicket
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.initialisation import initialise
from tests.sparse_core.bags import OPTIMIZERS, SIZE, VOCABULARY, Bag, made, train
from tests.sparse_core.ties import Twins
from tests.squares import squares

CENTRAL = ("set", "rigl", "srigl")
METHODS = [
    *(dict(method=method) for method in CENTRAL),
    dict(method="static"),
    dict(method="gse"),
    dict(method="mest", slack=0.1),
    dict(method="mest", slack=0.3, structure="constant_fan_in"),
    dict(method="gmp"),
    dict(method="gmp", structure="constant_fan_in"),
    dict(method="granet"),
    dict(method="rigl", gradient_steps=4),
    dict(method="rigl", growth="adam_momentum"),
    dict(method="rigl", optimizer_state="layer_mean"),
    dict(method="set", growth="importance", initialisation="kaiming"),
]


@pytest.mark.parametrize(
    ("dtype", "fields", "padding", "optimizer"),
    squares([torch.float64, torch.float32], METHODS, [None, 2], OPTIMIZERS),
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_both_backends_train_alike(dtype, fields, optimizer, padding):
    """In float64 throughout; in float32 until a tie parts them."""
    net, trainer, engine = made("masked", padding, optimizer, dtype, **fields)
    twin, twin_trainer, twin_engine = made("condensed", padding, optimizer, dtype, **fields)
    assert type(net.tokens) is MaskedEmbedding and type(twin.tokens) is CondensedEmbedding
    tolerance = dict(rtol=1e-7, atol=1e-9) if dtype is torch.float64 else dict(rtol=2e-3, atol=2e-4)
    twins = Twins()
    central = dtype is torch.float64 and fields["method"] in CENTRAL and len(fields) == 1
    for step in range(0, 200 if central else 50, 10):
        train(net, trainer, range(step, step + 10))
        train(twin, twin_trainer, range(step, step + 10))
        if not twins.tensors_alike(engine.tensors, twin_engine.tensors):
            assert dtype is torch.float32, f"float64 runs parted at step {step + 10}"
            return
        for one, other in zip(engine.tensors, twin_engine.tensors, strict=True):
            torch.testing.assert_close(one.values(), other.values(), **tolerance)
    assert engine.updates == twin_engine.updates > 0 or fields["method"] == "static"
    if padding is not None:
        for tensor in (engine.tensors[0], twin_engine.tensors[0]):
            assert not tensor.active()[padding].any() and not tensor.values()[padding].any()
            assert tensor.seen() is None or not tensor.seen()[padding].any()
        assert not net.tokens(torch.tensor(padding)).any()
    if fields["method"] != "static":
        assert exploration(engine) == exploration(twin_engine)


@pytest.mark.parametrize("method", ["set", "rigl", "srigl"])
def test_large_embeddings_are_updated_in_blocks_padding_left_out(method):
    """Three rows a block; the gradient is added up for the rows of a block alone."""
    with (
        patch("sparse_core.weights.condensed.BLOCKS_ABOVE", SIZE * VOCABULARY - 1),
        patch("sparse_core.kernels.topk.BLOCK_ELEMENTS", 3 * SIZE),
    ):
        nets = [
            made(backend, padding=2, dtype=torch.float64, method=method)
            for backend in ("masked", "condensed")
        ]
        for net, trainer, engine in nets:
            train(net, trainer, range(30))
            assert engine.updates == 3 and not engine.tensors[0].active()[2].any()
        one, other = (engine.tensors[0].active() for _, _, engine in nets)
        assert torch.equal(one, other) and nets[1][2].tensors[0].in_blocks


EXACT = ["static", "set", "rigl", "srigl", "gse", "snfs", "mest"]


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("padding", [None, 0, -1])
@pytest.mark.parametrize("method", EXACT)
def test_budgets_are_exact_and_padding_is_no_part_of_them(method, padding, backend):
    if (method, backend) == ("snfs", "condensed"):
        backend = "masked"
    net, trainer, engine = made(backend, padding, method=method, distribution="uniform")
    tokens = VOCABULARY - (padding is not None)
    layers = engine.layers()
    assert [layer.role for layer in layers] == ["input", "hidden", "output"]
    assert layers[0].total == tokens * SIZE
    assert engine.tensors[0].places == layers[0].total
    total = sum(layer.active for layer in layers)
    assert total == round(0.4 * sum(layer.total for layer in layers))
    if method == "srigl":
        fan_ins = engine.tensors[0].active().sum(1)
        live = torch.ones(VOCABULARY, dtype=torch.bool)
        if padding is not None:
            live[padding] = False
        least, more = divmod(layers[0].active, tokens)
        assert fan_ins[live].tolist() == [least + 1] * more + [least] * (tokens - more)
        assert not fan_ins[~live].any()
    train(net, trainer, range(50))
    assert sum(layer.active for layer in engine.layers()) == total or method == "mest"
    assert engine.updates == (0 if method == "static" else 5)
    if method == "srigl":
        assert torch.equal(engine.tensors[0].active().sum(1), fan_ins)


LATENT = [
    dict(method="topkast"),
    dict(method="topkast", structure="constant_fan_in"),
    dict(method="edge_popup"),
    dict(method="wsn"),
]


@pytest.mark.parametrize("fields", LATENT, ids=lambda f: "-".join(f.values()))
def test_methods_whose_inactive_weights_keep_values_leave_padding_out(fields):
    torch.manual_seed(0)
    net = Bag(padding=2)
    engine = sparsify(net, SparseConfig(embeddings=True, sparsity=0.1, update_every=5, **fields))
    trainer = OPTIMIZERS["sgd"](p for p in net.parameters() if p.requires_grad)
    engine.attach(trainer)
    train(net, trainer, range(20))
    active = engine.tensors[0].active()
    assert engine.updates >= 4 and not active[2].any()
    assert int(active.sum()) == engine.tensors[0].budget == engine.layers()[0].active
    assert not net.tokens(torch.tensor(2)).any()


def test_sr_ste_trains_an_embedding_without_padding():
    net, trainer, engine = made("masked", method="sr_ste", structure="1:4", sparsity=0.75)
    train(net, trainer, range(10))
    pieces = engine.tensors[0].active().reshape(VOCABULARY, -1, 4)
    assert bool((pieces.sum(2) == 1).all())


def test_tokens_are_never_ablated():
    net, trainer, engine = made(method="srigl", ablation_threshold=0.9, sparsity=0.8)
    train(net, trainer, range(60))
    assert [tensor.may_ablate for tensor in engine.tensors] == [False, True, False]
    fan_in = engine.tensors[0].active().sum(1)
    assert fan_in.min() > 0 and fan_in.max() - fan_in.min() <= 1
    assert [count.name for count in neurons(engine)] == ["net.0.weight", "net.2.weight"]


@pytest.mark.parametrize("how", ["scaled", "kaiming"])
def test_first_weights_keep_the_length_of_a_vector(how):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(400, 64, padding_idx=1))
    config = SparseConfig(method="srigl", sparsity=0.75, embeddings=True, initialisation=how)
    tensor = sparsify(net, config).tensors[0]
    squares = tensor.values().square().sum(1)
    assert squares[1] == 0
    assert abs(float(squares.sum()) / 399 / 64 - 1) < 0.03
    initialise(tensor, "kaiming", seed=5)
    assert not tensor.values()[1].any()


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_growth_sees_the_gradient_of_the_dense_embedding(backend):
    net, _, engine = made(backend, padding=2, method="rigl", update_every=1)
    tokens = torch.tensor([[1, 2, 2, 7, 1], [29, 7, 0, 2, 1]])
    weight = engine.tensors[0].values().clone().requires_grad_()
    vectors = nn.functional.embedding(tokens, weight, padding_idx=2)
    (net.net(vectors.mean(1)).square().sum()).backward()
    net.zero_grad()
    for _ in range(2):
        net(tokens).square().sum().backward()
    torch.testing.assert_close(engine.tensors[0].tap.gradient(), 2 * weight.grad)
    assert not weight.grad[2].any() and bool(weight.grad[1].all())


def state(net, optimizer):
    moments = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return [*net.state_dict().values(), *moments]


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("growth", ["gradient", "momentum"])
def test_copies_and_resumed_runs_are_bit_equal(backend, growth):
    fields = dict(backend=backend, padding=2, method="srigl", growth=growth)
    net, trainer, _ = made(**fields)
    train(net, trainer, range(37))
    twins = [copy.deepcopy((net, trainer)), pickle.loads(pickle.dumps((net, trainer)))]
    saved = copy.deepcopy((net.state_dict(), trainer.state_dict()))
    fresh, fresh_trainer, _ = made(**fields)
    fresh.load_state_dict(saved[0])
    fresh_trainer.load_state_dict(saved[1])
    train(net, trainer, range(37, 70))
    for twin, optimizer in [*twins, (fresh, fresh_trainer)]:
        train(twin, optimizer, range(37, 70))
        assert all(map(torch.equal, state(net, trainer), state(twin, optimizer)))


@pytest.mark.parametrize("lagging", [False, True])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_a_target_follows(backend, lagging):
    net, trainer, engine = made(backend, padding=2, method="rigl")
    target = Bag(padding=2)
    engine.follow(target, lagging=lagging)
    assert type(target.tokens) is type(net.tokens)
    train(net, trainer, range(30))
    with torch.no_grad():
        for own, theirs in zip(target.parameters(), net.parameters(), strict=True):
            own.copy_(theirs)
    tokens = torch.arange(VOCABULARY).reshape(6, 5)
    assert engine.updates == 3 and torch.equal(target(tokens), net(tokens))


def test_the_backend_of_each_layer():
    net = nn.Sequential(nn.Embedding(40, 512), nn.Linear(512, 512))
    config = SparseConfig(method="static", embeddings=True, backend="auto")
    kinds = [type(t).__name__ for t in sparsify(net, config, batch=256).tensors]
    assert kinds == ["MaskedTensor", "CondensedTensor"]
    grouped = SparseConfig(method="srigl", group=2, embeddings=True, backend="condensed")
    with pytest.warns(UserWarning, match="stay masked .*'tokens.weight' .its tokens share their"):
        tensors = sparsify(Bag(), grouped).tensors
    assert [isinstance(t, CondensedTensor) for t in tensors] == [False, True, True]


def test_embeddings_stay_dense_unless_asked_for():
    net, twin = Bag(), Bag()
    sparsify(net, SparseConfig(method="rigl"))
    sparsify(twin, SparseConfig(method="rigl", embeddings=True, dense=("tokens",)))
    assert type(net.tokens) is type(twin.tokens) is nn.Embedding
    assert [item.role for item in select(Bag())] == ["input", "output"]
    last = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Embedding(5, 6))
    assert [i.role for i in select(last, embeddings=True)] == ["input", "output", "input"]
    assert SparseConfig(embeddings=True) != SparseConfig()
    dense = SparseConfig(method="dense", embeddings=True)
    assert dense.canonical() == SparseConfig(method="dense").canonical()


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_export(backend):
    net, trainer, _ = made(backend, padding=2, method="rigl")
    train(net, trainer, range(20))
    tokens = torch.arange(VOCABULARY).reshape(6, 5)
    small = condense(net)
    assert type(small.tokens) is CondensedEmbedding and type(small.net[0]) is CondensedLinear
    torch.testing.assert_close(small(tokens), net(tokens), rtol=1e-5, atol=1e-6)
    buffers = {name for name, _ in small.tokens.named_buffers()} - {"weight_seen"}
    assert buffers == {"columns", "lengths"}


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_a_lookup_costs_nothing(backend):
    net, _, engine = made(backend, method="static")
    with FlopCounter(net) as counter, torch.no_grad():
        net(torch.zeros(1, 5, dtype=torch.int64))
    flops = counter.count(active_weights(engine))
    assert {layer.name: layer.dense for layer in flops.layers} == {
        "tokens.weight": 0,
        "net.0.weight": 2 * SIZE * 16,
        "net.2.weight": 2 * 16 * 3,
    }
    assert flops.sparse == 2 * sum(layer.active for layer in engine.layers()[1:])


def test_first_masks_by_saliency():
    net = Bag(padding=2)
    tokens = torch.randint(3, VOCABULARY, (40, 5), generator=torch.Generator().manual_seed(0))

    def loss():
        return net(tokens).square().mean()

    scores = [
        magnitudes(net, embeddings=True),
        snip(net, loss, embeddings=True),
        grasp(net, loss, embeddings=True),
    ]
    for each in scores:
        twin = copy.deepcopy(net)
        config = SparseConfig(method="static", sparsity=0.7, embeddings=True)
        tensor = sparsify(twin, config, scores=each).tensors[0]
        chosen = each["tokens.weight"][tensor.active()]
        assert not tensor.active()[2].any() and len(chosen) == tensor.budget
        others = ~tensor.active()
        others[2] = False
        assert chosen.min() >= each["tokens.weight"][others].max()


def test_lottery_tickets_of_an_embedding_hold_their_share():
    config = SparseConfig(
        method="ticket", sparsity=0.75, embeddings=True, rounds=2, distribution="uniform"
    )
    ticket = LotteryTicket(Bag(padding=2), config)
    densities = [engine.tensors[0].count() / ((VOCABULARY - 1) * SIZE) for engine in ticket]
    assert densities == [1.0, 0.5, 0.25]
    assert not ticket.engine.tensors[0].active()[2].any()


def test_a_new_task_draws_masks_and_weights_anew():
    net, trainer, engine = made(padding=2, method="set")
    train(net, trainer, range(5))
    before, active = engine.tensors[0].active(), engine.tensors[0].count()
    engine.redraw(1)
    assert not torch.equal(engine.tensors[0].active(), before)
    assert engine.tensors[0].count() == active and not engine.tensors[0].active()[2].any()
    train(net, trainer, range(15))
    assert engine.tensors[0].count() == active


def test_an_embedding_used_twice_in_one_pass_grows_by_the_sum():
    gradients = []
    for backend in ("masked", "condensed"):
        net, _, engine = made(backend, method="rigl", update_every=1)
        tokens = torch.arange(10).reshape(2, 5)
        (net.tokens(tokens).sum() + 2 * net.tokens(tokens[:1]).sum()).backward()
        gradients.append(engine.tensors[0].tap.gradient())
    expected = torch.zeros(VOCABULARY, SIZE)
    expected[:5], expected[5:10] = 3, 1
    assert all(torch.equal(gradient, expected) for gradient in gradients)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_the_row_of_padding_counts_in_no_sparsity(backend):
    """3 rows of 4 have places for weights, whether the embedding is sparse or dense."""
    net = nn.Sequential(nn.Embedding(4, 8, padding_idx=1), nn.Linear(8, 4))
    sizes = {"0.weight": 24, "1.weight": 32}
    config = SparseConfig("static", 0.5, embeddings=True, backend=backend, distribution="uniform")
    engine = sparsify(net, config)
    assert {layer.name: layer.total for layer in engine.layers()} == sizes
    assert {layer.name: layer.active for layer in engine.layers()} == {
        "0.weight": 12,
        "1.weight": 16,
    }
    assert engine.network_sparsity == engine.sparsity == 0.5
    dense = nn.Sequential(nn.Embedding(4, 8, padding_idx=1), nn.Linear(8, 4))
    engine = sparsify(dense, SparseConfig("static", 0.5, backend=backend))
    assert engine.network_sparsity == 1 - (24 + 16) / 56
