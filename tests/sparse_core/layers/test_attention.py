import copy

import pytest
import torch
from torch import nn

from sparse_core import InputError, SparseConfig, condense, sparsify
from sparse_core.layers import MaskedMultiheadAttention


def attention(**kwargs):
    torch.manual_seed(0)
    return nn.MultiheadAttention(8, 2, batch_first=True, **kwargs)


@pytest.mark.parametrize("kwargs", [{}, {"bias": False}, {"kdim": 6, "vdim": 4}])
def test_masked_attention_computes_what_the_dense_one_does_with_zeros(kwargs):
    dense, sparse = attention(**kwargs), attention(**kwargs)
    engine = sparsify(sparse, SparseConfig(method="static", sparsity=0.5, initialisation="keep"))
    assert type(sparse) is MaskedMultiheadAttention
    with torch.no_grad():
        for tensor in engine.tensors:
            dense.get_parameter(tensor.name).mul_(tensor.mask)
    query = torch.randn(3, 5, 8)
    key = torch.randn(3, 7, kwargs.get("kdim", 8))
    value = torch.randn(3, 7, kwargs.get("vdim", 8))
    for module in (dense, sparse):
        module.train()
    for ours, theirs in zip(sparse(query, key, value), dense(query, key, value), strict=True):
        torch.testing.assert_close(ours, theirs)
    alone, _ = sparse(query[0], key[0], value[0], need_weights=False)
    torch.testing.assert_close(alone, dense(query[0], key[0], value[0], need_weights=False)[0])


def test_projections_are_one_matrix_with_a_role_of_its_own():
    engine = sparsify(attention(), SparseConfig(method="srigl", sparsity=0.5))
    shapes = [(t.name, t.role, t.rows, t.cols) for t in engine.tensors]
    assert shapes == [("in_proj_weight", "qkv", 24, 8), ("out_proj.weight", "output", 8, 8)]


def test_the_input_projection_alone_can_stay_dense():
    module = attention()
    engine = sparsify(module, SparseConfig(method="rigl", sparsity=0.5, dense=("*in_proj*",)))
    assert [t.name for t in engine.tensors] == ["out_proj.weight"]
    assert type(module) is MaskedMultiheadAttention
    x = torch.randn(2, 3, 8)
    module(x, x, x)[0].sum().backward()
    assert bool((module.out_proj.weight.grad[engine.tensors[0].mask == 0] == 0).all())
    assert bool((module.in_proj_weight.grad != 0).any())


def test_a_transformer_trains_sparse_and_its_fast_path_agrees():
    torch.manual_seed(0)
    net = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    optimizer = torch.optim.AdamW(net.parameters())
    config = SparseConfig(method="srigl", sparsity=0.7, update_every=3, never_ablate=())
    engine = sparsify(net, config, optimizer)
    x = torch.randn(4, 5, 8)
    for _ in range(12):
        optimizer.zero_grad()
        (net(x) - x.flip(1)).pow(2).mean().backward()
        optimizer.step()
    assert engine.updates == 4
    for tensor in engine.tensors:
        assert bool((tensor.weight[tensor.mask == 0] == 0).all())
        assert bool((tensor.weight.grad[tensor.mask == 0] == 0).all())
    trained = net(x)
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(net(x), trained, rtol=1e-4, atol=1e-5)


def test_latent_weights_outside_the_mask_are_not_read_by_the_fused_path():
    torch.manual_seed(0)
    net = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    sparsify(net, SparseConfig(method="topkast", sparsity=0.7))
    x = torch.randn(4, 5, 8)
    trained = net(x).detach()
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(net(x), trained)


def encoder(**kwargs):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, **kwargs)


def eval_equals_train(net, x):
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    for mask in (None, padding):
        trained = net.train()(x, src_key_padding_mask=mask).detach()
        with torch.no_grad():
            inferred = net.eval()(x, src_key_padding_mask=mask)
        real = slice(None) if mask is None else ~mask
        torch.testing.assert_close(inferred[real], trained[real], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Layers that stay masked")
@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("method", ["rigl", "static", "topkast"])
def test_inference_reads_no_weights_outside_the_masks(method, backend):
    """However they got there: by an average, with noise, by a load of a part."""
    net = encoder()
    if method == "topkast" and backend == "condensed":
        with pytest.raises(InputError, match="backend='condensed': "):
            sparsify(net, SparseConfig(method=method, sparsity=0.7, backend=backend))
        return
    sparsify(net, SparseConfig(method=method, sparsity=0.7, backend=backend))
    x = torch.randn(2, 5, 8)
    eval_equals_train(net, x)
    dense = encoder()
    net.load_state_dict(dense.state_dict(), strict=False)
    eval_equals_train(net, x)
    net.layers[1].load_state_dict(dense.layers[1].state_dict(), strict=False)
    eval_equals_train(net, x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3)
    eval_equals_train(net, x)
    eval_equals_train(copy.deepcopy(net), x)


def test_encoders_without_sparse_layers_are_fused_and_others_are_not():
    net = nn.Sequential(encoder(), nn.Linear(8, 4))
    sparsify(net, SparseConfig(method="rigl", sparsity=0.5, dense=("0.*",)))
    assert not any(module._forward_pre_hooks for module in net.modules())
    x = torch.randn(2, 5, 8)
    for dense in ((), ("*linear*",), ("*self_attn*",)):
        net = encoder()
        sparsify(net, SparseConfig(method="rigl", sparsity=0.5, dense=dense))
        assert all(layer._forward_pre_hooks for layer in net.layers)
        small = condense(nn.ModuleList([net]))[0]
        assert all(layer._forward_pre_hooks for layer in small.layers)
        torch.testing.assert_close(small(x), net.eval()(x))
    net = encoder()
    sparsify(net, SparseConfig(method="static", sparsity=0.0, dense=("*self_attn*",)))
    assert all(layer._forward_pre_hooks for layer in net.layers)
    assert not any(layer._forward_pre_hooks for layer in condense(net).layers)
