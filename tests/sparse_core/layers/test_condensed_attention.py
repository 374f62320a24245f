"""Condensed attention against torch's own on the same weights, zeros included."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sparse_core import SparseConfig, condense, sparsify
from sparse_core.layers import MaskedMultiheadAttention
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.condensed_attention import CondensedMultiheadAttention
from sparse_core.layers.dense import become_dense
from sparse_core.metrics.flops import FlopCounter, active_weights
from sparse_core.weights.condensed import CondensedTensor
from tests.sparse_core.layers.attending import HEADS, SIZE, attention, dense_twin, sparse

modules = st.fixed_dictionaries(
    {
        "bias": st.booleans(),
        "add_bias_kv": st.booleans(),
        "add_zero_attn": st.booleans(),
        "batch_first": st.booleans(),
        "kdim": st.sampled_from([None, 6]),
        "vdim": st.sampled_from([None, 4]),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    options=modules,
    group=st.sampled_from([1, 2]),
    shared=st.sampled_from(["all", "key and value", "nothing"]),
    batched=st.booleans(),
    mask=st.sampled_from([None, "causal", "flag", "bool", "float", "heads"]),
    padding=st.sampled_from([None, "bool", "float"]),
    need=st.sampled_from(["none", "mean", "heads"]),
    train=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_computes_what_torch_does(
    options, group, shared, batched, mask, padding, need, train, seed
):
    """torch's arguments, outputs, gradients of inputs and of parameters, in all combinations."""
    module = attention(seed, **options)
    sparse(module, group=group)
    assert type(module) is CondensedMultiheadAttention
    module.train(train)
    twin = dense_twin(module, **options)

    batch, queries, keys = 3, 5, 4 if shared != "all" else 5
    widths = SIZE, options["kdim"] or SIZE, options["vdim"] or SIZE
    if widths[1] != widths[2] or (shared == "all" and widths != (SIZE,) * 3):
        shared = "nothing"
    lengths = queries, keys, keys
    given_x = [torch.randn(batch, n, w) for n, w in zip(lengths, widths, strict=True)]
    if not batched:
        given_x = [x[0] for x in given_x]
    elif not options["batch_first"]:
        given_x = [x.transpose(0, 1) for x in given_x]

    def call(net):
        xs = [x.clone().requires_grad_() for x in given_x]
        if shared != "nothing":
            xs[2] = xs[1]
        if shared == "all":
            xs = [xs[0]] * 3
        output, weights = net(*xs, **arguments)
        net.zero_grad()
        output.pow(2).sum().backward()
        return output, weights, [x.grad for x in xs]

    arguments = dict(need_weights=need != "none", average_attn_weights=need != "heads")
    if mask == "causal":
        arguments["attn_mask"] = torch.ones(queries, keys, dtype=torch.bool).triu(1)
    elif mask == "flag":
        arguments["attn_mask"] = torch.ones(queries, keys, dtype=torch.bool).triu(1)
        arguments["is_causal"] = True
    elif mask is not None:
        shape = (HEADS * (batch if batched else 1),) if mask == "heads" else ()
        floats = torch.randn(*shape, queries, keys)
        arguments["attn_mask"] = floats > 1 if mask == "bool" else floats
        if mask == "bool":
            arguments["attn_mask"][..., 0] = False
    if padding is not None:
        hidden = torch.zeros(batch, keys, dtype=torch.bool)
        hidden[1:, -1] = True
        kind = arguments["attn_mask"].dtype if "attn_mask" in arguments else None
        hidden = hidden if kind is torch.bool or (kind is None and padding == "bool") else (
            torch.zeros(batch, keys).masked_fill(hidden, -3.0)
        )  # fmt: skip
        arguments["key_padding_mask"] = hidden if batched else hidden[1]

    ours, theirs = call(module), call(twin)
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    engine = module.sparse_engine
    for tensor in engine.tensors:
        wanted = twin.get_parameter(tensor.name).grad[tensor.active()]
        assert isinstance(tensor, CondensedTensor)
        got = tensor.layer.pattern.expand(tensor.weight.grad.numpy())
        torch.testing.assert_close(
            torch.from_numpy(got)[tensor.active()], wanted, rtol=1e-4, atol=1e-4
        )


def test_dropout_draws_as_torch_does():
    module = attention(dropout=0.5, batch_first=True)
    sparse(module)
    twin, x = dense_twin(module, dropout=0.5, batch_first=True), torch.randn(2, 5, SIZE)
    for weights in (True, False):
        found = []
        for net in (module, twin):
            torch.manual_seed(3)
            found.append(net(x, x, x, need_weights=weights)[0])
        torch.testing.assert_close(*found)


OPTIONS = [{}, {"bias": False}, {"kdim": 6, "vdim": 4}, {"add_bias_kv": True}]


def trained(backend, options, steps=6, kind=torch.optim.AdamW):
    module = attention(batch_first=True, **options)
    optimizer = kind(module.parameters(), 1e-2)
    engine = sparse(module, backend, optimizer)
    for step in range(steps):
        optimizer.zero_grad()
        module(*inputs(options, step))[0].pow(2).mean().backward()
        optimizer.step()
    return module, engine, optimizer


def inputs(options, seed):
    torch.manual_seed(seed)
    widths = SIZE, options.get("kdim", SIZE), options.get("vdim", SIZE)
    return [torch.randn(3, n, w) for n, w in zip((5, 7, 7), widths, strict=True)]


@pytest.mark.parametrize("options", OPTIONS)
def test_masked_and_condensed_visit_the_same_topologies(options):
    (masked, one, _), (condensed, other, _) = (
        trained(backend, options) for backend in ("masked", "condensed")
    )
    assert one.updates == other.updates == 3
    for mine, theirs in zip(one.tensors, other.tensors, strict=True):
        assert mine.name == theirs.name and torch.equal(mine.active(), theirs.active())
        torch.testing.assert_close(mine.values(), theirs.values())
    # Either reads the other's state, topology included.
    x = inputs(options, 9)
    states = [copy.deepcopy(net.state_dict()) for net in (masked, condensed)]
    for net, state in zip((condensed, masked), states, strict=True):
        net.load_state_dict(state)
    torch.testing.assert_close(masked(*x), condensed(*x))
    # The moments too, where parameters keep their order.
    other.use_masks()
    assert type(condensed) is MaskedMultiheadAttention
    assert [n for n, _ in condensed.named_parameters()] == [n for n, _ in masked.named_parameters()]
    torch.testing.assert_close(masked(*x), condensed(*x))


@pytest.mark.parametrize("options", OPTIONS)
def test_masked_attention_is_condensed_for_deployment(options):
    module, engine, _ = trained("masked", options, steps=3)
    small, x = condense(module), inputs(options, 9)
    assert type(small) is CondensedMultiheadAttention
    assert type(module) is MaskedMultiheadAttention
    found = sum(m.pattern.nnz for m in small.modules() if isinstance(m, CondensedLinear))
    assert found == sum(int(tensor.active().sum()) for tensor in engine.tensors)
    torch.testing.assert_close(small(*x), module.eval()(*x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_an_average_is_the_masked_one(options):
    averages = []
    for backend in ("masked", "condensed"):
        # The bias of keys has no gradient but rounding, which Adam makes large.
        module, _, optimizer = trained(backend, options, 2, torch.optim.SGD)
        averaged = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.8))
        for step in range(4):
            averaged.update_parameters(module)
            optimizer.zero_grad()
            module(*inputs(options, step))[0].pow(2).mean().backward()
            optimizer.step()
        averaged.update_parameters(module)
        averages.append(averaged.module)
    assert all(type(net) is MaskedMultiheadAttention for net in averages)
    for one, other in zip(*(net.state_dict().items() for net in averages), strict=True):
        assert one[0] == other[0]
        torch.testing.assert_close(one[1], other[1])
    x = inputs(options, 9)
    torch.testing.assert_close(averages[0](*x), averages[1](*x))


def test_a_dense_state_is_taken_where_there_are_weights():
    module = attention(1, batch_first=True)
    engine = sparse(module)
    module.load_state_dict(attention(2).state_dict(), strict=False)
    for tensor in engine.tensors:
        wanted = attention(2).get_parameter(tensor.name) * tensor.active()
        assert torch.equal(tensor.values(), wanted.detach())
    assert torch.equal(module.in_proj.bias, attention(2).in_proj_bias)


def test_one_dense_projection_stays_a_parameter():
    for dense, called in ((("*in_proj*",), []), (("*out_proj*",), ["in_proj"])):
        module = attention(batch_first=True)
        sparse(module, dense=dense)
        assert type(module) is CondensedMultiheadAttention
        assert [name for name, _ in module.called()] == called
        assert isinstance(module.out_proj, CondensedLinear) == (not called)
        x = torch.randn(2, 3, SIZE)
        torch.testing.assert_close(module(x, x, x), dense_twin(module, batch_first=True)(x, x, x))


def test_all_sparse_projections_have_one_form():
    """The automatic choice takes all of them or none, and so does what a caller keeps masked."""
    module = attention()
    sparsify(module, SparseConfig(backend="condensed"), keep_masked=["out_proj.weight"])
    assert type(module) is MaskedMultiheadAttention and module.in_proj_weight is not None
    for size, kind in ((8, MaskedMultiheadAttention), (256, CondensedMultiheadAttention)):
        module = nn.MultiheadAttention(size, HEADS)
        sparsify(module, SparseConfig(backend="auto", sparsity=0.95), batch=256)
        assert type(module) is kind


class Mine(nn.MultiheadAttention):
    """A class of somebody's own."""


@pytest.mark.parametrize("kind", [nn.MultiheadAttention, Mine])
def test_copies_pickles_and_casts(kind):
    torch.manual_seed(0)
    module = kind(SIZE, HEADS, batch_first=True)
    sparse(module)
    x = torch.randn(2, 3, SIZE)
    expected = module(x, x, x)[0]
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert isinstance(copied, kind) and isinstance(copied, CondensedMultiheadAttention)
        torch.testing.assert_close(copied(x, x, x)[0], expected)
        exact = copied.double()(*[x.double()] * 3)[0]
        torch.testing.assert_close(exact.float(), expected)
    small = condense(module)
    assert isinstance(small.in_proj, CondensedLinear) and isinstance(small, kind)
    torch.testing.assert_close(small(x, x, x)[0], expected)
    become_dense(module)
    assert type(module) is kind
    torch.testing.assert_close(module(x, x, x)[0], expected)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_a_trace_sees_all_of_it():
    layer = nn.TransformerEncoderLayer(SIZE, HEADS, 16, 0.0, batch_first=True)
    sparse(layer)
    one, other = torch.randn(2, 3, SIZE), torch.randn(2, 3, SIZE)
    traced = torch.jit.trace(layer, one)
    torch.testing.assert_close(traced(other), layer(other))


@pytest.mark.parametrize("options", [{}, {"kdim": 6, "vdim": 4}])
def test_operations_are_those_of_the_masked_one(options):
    counts = []
    for backend in ("masked", "condensed"):
        module = attention(batch_first=True, **options)
        engine = sparse(module, backend)
        active = active_weights(engine, module)
        assert active == active_weights(engine)
        with FlopCounter(module) as counter:
            module(*inputs(options, 0))
        counts.append(counter.count(active))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (dict(attn_mask=torch.zeros(4, 5)), r"attn_mask: has shape \(4, 5\), must have \(5, 5\)"),
        (dict(attn_mask=torch.zeros(5, 5, dtype=torch.int32)), "attn_mask: is torch.int32, must"),
        (dict(key_padding_mask=torch.zeros(5, 2)), r"key_padding_mask: .* must have \(2, 5\)"),
        (dict(is_causal=True), "is_causal=True: needs attn_mask"),
    ],
)
def test_what_does_not_fit_is_named(arguments, match):
    module = attention(batch_first=True)
    sparse(module)
    x = torch.randn(2, 5, SIZE)
    with pytest.raises(ValueError, match=match):
        module(x, x, x, **arguments)


def test_inputs_that_do_not_fit_are_named():
    module = attention(batch_first=True)
    sparse(module)
    x = torch.randn(2, 5, SIZE)
    with pytest.raises(ValueError, match=r"key: has shape \(2, 5, 7\), must have 8 features"):
        module(x, x[..., :7], x)
    with pytest.raises(ValueError, match=r"value: has shape \(2, 4, 8\), beside a key of"):
        module(x, x, x[:, :4])
    with pytest.raises(ValueError, match="query: has shape"):
        module(x[0, 0], x[0, 0], x[0, 0])


def test_a_state_of_another_size_is_refused_by_name():
    module, other = attention(), nn.MultiheadAttention(4, HEADS)
    sparse(module)
    sparse(other)
    with pytest.raises(RuntimeError, match="in_proj"):
        module.load_state_dict(other.state_dict())
    masked = attention()
    sparse(masked, "masked")
    with pytest.raises(RuntimeError, match="in_proj_weight"):
        masked.load_state_dict(other.state_dict())


def test_a_decoder_attends_to_what_was_encoded():
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(SIZE, HEADS, 16, 0.0, activation=F.gelu, batch_first=True)
    sparse(layer, method="static")
    twin = nn.TransformerDecoderLayer(SIZE, HEADS, 16, 0.0, activation=F.gelu, batch_first=True)
    copied = copy.deepcopy(layer)
    become_dense(copied)
    twin.load_state_dict({k: v for k, v in copied.state_dict().items() if k in twin.state_dict()})
    x, memory = torch.randn(2, 5, SIZE), torch.randn(2, 7, SIZE)
    torch.testing.assert_close(layer(x, memory), twin(x, memory))


def test_the_listing_says_what_stays_dense():
    engine = sparse(attention())
    assert repr(engine).endswith(
        "dense beside these: attention's products of queries, keys and values"
    )
    assert "products" not in repr(sparse(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch itself, where a graph breaks
def test_torch_compiles_what_is_around_the_kernels():
    layer = nn.TransformerEncoderLayer(SIZE, HEADS, 16, 0.0, batch_first=True)
    sparse(layer, method="static")
    x, found = torch.randn(2, 3, SIZE), []
    for net in (layer, torch.compile(layer, backend="eager")):
        layer.zero_grad()
        out = net(x)
        out.square().sum().backward()
        found.append([out, *(parameter.grad.clone() for parameter in layer.parameters())])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)
