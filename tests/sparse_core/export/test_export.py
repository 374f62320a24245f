"""Exported networks compute what the trained ones do, with less."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, condense, sparsify, to_torch_csr
from sparse_core.export.folding import ELEMENTWISE
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import CondensedLinear, become_condensed
from sparse_core.layers.condensed_attention import CondensedMultiheadAttention
from sparse_core.layers.csr import CsrLinear
from tests.sparse_core.export.subjects import Gaussian, ablate
from tests.sparse_core.networks import mlp, train


def sparse_mlp(backend, activation, sizes=(12, 16, 16, 4), **fields):
    torch.manual_seed(0)
    net = mlp(*sizes)
    for i in range(1, len(net), 2):
        net[i] = activation()
    for layer in net[::2]:
        nn.init.normal_(layer.bias)
    config = dict(method="srigl", sparsity=0.5, distribution="uniform", backend=backend) | fields
    return net, sparsify(net, SparseConfig(**config))


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("activation", ELEMENTWISE, ids=lambda a: a.__name__)
def test_condense_removes_ablated_neurons_and_computes_the_same(activation, backend):
    net, engine = sparse_mlp(backend, activation)
    ablate(engine, 0, [1, 5, 6])
    ablate(engine, 1, [0, 15])
    net.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    small = condense(net)
    x = torch.randn(9, 12)
    torch.testing.assert_close(small(x), net(x), rtol=1e-5, atol=2e-6)
    assert [(m.in_features, m.out_features) for m in small[::2]] == [(12, 13), (13, 14), (14, 4)]
    assert type(small) is CondensedSequential and type(small[0]) is CondensedLinear
    assert not hasattr(small, "sparse_engine") and "sparse_clock" not in small.state_dict()
    assert not any(p.requires_grad for p in small.parameters()) and not small(x).requires_grad
    assert net.sparse_engine is engine and all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_constants_are_folded_as_computed_by_hand():
    first, last = nn.Linear(2, 2), nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
        first.bias.copy_(torch.tensor([1.0, 3.0]))
        last.weight.copy_(torch.tensor([[5.0, 7.0]]))
    become_condensed(first, first.weight.detach() != 0)
    small = condense(nn.Sequential(first, nn.ReLU(), last))
    assert small[0].dense_weight().tolist() == [[0.0, 2.0]] and small[0].bias.tolist() == [1.0]
    assert small[2].weight.tolist() == [[5.0]] and small[2].bias.tolist() == [21.0]


def test_a_neuron_that_loses_its_last_input_goes_too():
    first, middle, last = nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 2)
    masks = [torch.tensor([[1, 1], [0, 0], [1, 0]]), torch.tensor([[0, 1, 0], [1, 1, 1]])]
    masks.append(torch.ones(2, 2))
    for layer, mask in zip((first, middle, last), masks, strict=True):
        become_condensed(layer, mask.bool())
    net = nn.Sequential(first, nn.Tanh(), middle, nn.Tanh(), last)
    small = condense(net)
    assert [(m.in_features, m.out_features) for m in small[::2]] == [(2, 2), (2, 1), (1, 2)]
    x = torch.randn(5, 2)
    torch.testing.assert_close(small(x), net(x))


def test_a_layer_without_any_weight_keeps_one_neuron():
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    become_condensed(first, torch.zeros(4, 3, dtype=torch.bool))
    net = nn.Sequential(first, nn.ReLU(), last)
    small = condense(net)
    assert small[0].out_features == small[2].in_features == 1
    torch.testing.assert_close(small(torch.ones(2, 3)), net(torch.ones(2, 3)))


class Heads(nn.Module):
    """A body in a Sequential of its own and two heads, as Stable-Baselines3's policies have."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.actor = nn.Linear(32, 3)
        self.critic = nn.Sequential(
            nn.Linear(32, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 1)
        )
        self.both = [self.body, self.critic]
        self.optimizer = torch.optim.Adam(self.parameters())

    def forward(self, x):
        x = self.both[0](x)
        return torch.cat([self.actor(x), self.both[1](x)], -1)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("export", [condense, to_torch_csr])
def test_modules_with_several_heads(export, backend):
    torch.manual_seed(0)
    net = Heads()
    config = SparseConfig(method="srigl", sparsity=0.8, backend=backend, update_every=5, horizon=99)
    engine = sparsify(net, config, net.optimizer)
    train(net, net.optimizer, range(30))
    for index, rows in enumerate(([3, 8], [1, 2, 30], [0], [7])):
        ablate(engine, index, rows)
    live = int(engine.tensors[0].active().any(1).sum())
    small = export(net)
    x = torch.randn(6, 12)
    torch.testing.assert_close(small(x), net(x), rtol=1e-5, atol=2e-6)
    assert small.optimizer is None and net.optimizer is engine.optimizer
    assert small.both[0] is small.body
    kind = CsrLinear if export is to_torch_csr else CondensedLinear
    assert all(type(m) is kind for m in (small.actor, small.critic[0], small.body[2]))
    if export is condense:
        assert small.body[0].out_features == live < 32
        assert small.body[2].out_features == small.critic[0].in_features == 32
        assert small.critic[0].out_features == 16


def test_what_is_used_twice_or_watched_keeps_its_neurons():
    def made():
        layer = nn.Linear(3, 4)
        become_condensed(layer, torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]]).bool())
        return nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2))

    twice = made()
    twice.again = nn.ModuleList([twice[0]])
    watched = made()
    watched[1].register_forward_hook(lambda *args: None)
    nested = nn.Sequential(made()[:2], nn.Identity(), nn.Sequential(nn.Linear(4, 2)))
    assert condense(watched)[0].out_features == 4
    assert condense(nn.Sequential(made()[0], nn.LayerNorm(4), nn.Linear(4, 2)))[0].out_features == 4
    holder = nn.ModuleList([twice])
    holder.shared = twice[0]
    assert condense(holder)[0][0].out_features == 4
    assert condense(nested)[0][0].out_features == condense(made())[0].out_features == 3


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_groups_are_found(group):
    net, engine = sparse_mlp("masked", nn.ReLU, sizes=(24, 48, 18, 5), group=group)
    ablate(engine, 0, range(8, 16))
    small = condense(net)
    assert [m.group for m in small[::2]][:2] == [group, group]
    x = torch.randn(40, 24)
    torch.testing.assert_close(small(x), net(x), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("growth", ["gradient", "momentum"])
def test_nothing_is_left_of_training(growth):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    config = SparseConfig(
        method="rigl", growth=growth, sparsity=0.7, update_every=2, backend="condensed"
    )
    sparsify(net, config, optimizer)
    for _ in range(5):
        net(torch.randn(8, 12)).square().sum().backward()
        optimizer.step()
    assert "0.weight_seen" in net.state_dict()
    held = {name.partition(".")[2] for name in condense(net).state_dict()}
    assert held == {"values", "columns", "lengths", "bias"}


def test_exports_can_be_copied_pickled_saved_and_exported_again():
    net, engine = sparse_mlp("condensed", nn.ReLU)
    ablate(engine, 0, [2, 3])
    x = torch.randn(5, 12)
    for export in (condense, to_torch_csr):
        small = export(net)
        file = io.BytesIO()
        torch.save(small.state_dict(), file)
        for twin in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
            file.seek(0)
            twin.load_state_dict(torch.load(file))
            assert torch.equal(twin(x), small(x))
    again = to_torch_csr(condense(net))
    torch.testing.assert_close(again(x), net(x))
    assert again[0].matrix().layout is torch.sparse_csr
    torch.testing.assert_close(again[0](x[0]), again[0](x)[0])


def test_full_layers_become_plain_and_dense_ones_stay():
    net = mlp(12, 16, 4)
    sparsify(net, SparseConfig(method="static", sparsity=0.0))
    small = condense(net)
    assert [type(m) for m in small] == [nn.Linear, nn.ReLU, nn.Linear]
    with pytest.raises(ValueError, match="bfloat16, not float32 or float64"):
        half = mlp(12, 16, 4).to(torch.bfloat16)
        sparsify(half, SparseConfig(method="static"))
        condense(half)


@pytest.mark.parametrize("export", [condense, to_torch_csr])
def test_attention_and_latent_weights(export):
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    sparsify(block, SparseConfig(method="topkast"))
    x = torch.randn(2, 5, 16)
    block.eval()
    small = export(block)
    with torch.no_grad():
        torch.testing.assert_close(small(x), block(x), rtol=1e-4, atol=1e-5)
    kinds = {condense: CondensedMultiheadAttention, to_torch_csr: nn.MultiheadAttention}
    assert type(small.self_attn) is kinds[export]
    assert type(small.linear1) in (CondensedLinear, CsrLinear)


@pytest.mark.parametrize("export", [condense, to_torch_csr])
def test_what_a_forward_pass_left_is_copied_without_its_graph(export):
    torch.manual_seed(0)
    net, x = Gaussian(), torch.randn(2, 3)
    sparsify(net, SparseConfig(method="static", sparsity=0.5, backend="condensed"))
    net.mean = out = net(x)
    small = export(net)
    assert net.mean.grad_fn is not None
    assert torch.equal(small.mean, out) and small.mean.grad_fn is None
    assert small.kept.last.loc.grad_fn is None and small.kept.all[0] is small.kept.last
    torch.testing.assert_close(small(x), out)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_bfloat16_is_refused_in_one_line_and_exported_as_float32(backend):
    net, _ = sparse_mlp(backend, nn.ReLU)
    x = torch.randn(5, 12)
    net.bfloat16()
    with pytest.raises(ValueError, match=r"^to_torch_csr: weights are torch.bfloat16; call .float"):
        to_torch_csr(net)
    net.float().eval()
    torch.testing.assert_close(to_torch_csr(net)(x), net(x))
