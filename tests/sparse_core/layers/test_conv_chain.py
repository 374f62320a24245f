"""Convolutions that are computed together are those that they would be one by one."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.layers import conv_chain
from sparse_core.layers.conv_blocks import Parts, chains
from sparse_core.layers.conv_pooling import is_pooling
from sparse_core.layers.conv_runs import conv_runs
from sparse_core.networks.residual import resnet
from sparse_core.torchvision_compat import prepare_torchvision
from supervised.vision.wide import WideBlock
from tests.sparse_core.convolutions import few_patches

__all__ = ["few_patches"]

pytestmark = pytest.mark.usefixtures("few_patches")


def pair(make, **fields):
    """Return a network with masks and the same one condensed."""
    nets = []
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = make()
        config = dict(method="static", sparsity=0.6, backend=backend, structure="constant_fan_in")
        sparsify(net, SparseConfig(**config | fields), roles={"*": "hidden"})
        nets.append(net)
    return nets


def plain():
    layers = [nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Identity()]
    return nn.Sequential(*layers, nn.Conv2d(8, 8, 3, 2, bias=False), nn.BatchNorm2d(8))


def small():
    net = resnet(4, 2, 2, channels=4)
    return nn.Sequential(*list(net)[3:-3])  # blocks alone


def of_torchvision(kind):
    prepare_torchvision()
    from torchvision.models import resnet as models

    return nn.Sequential(kind(models)(8, 8 // kind(models).expansion), nn.Flatten())


def chained(net, x):
    """Return whether a network's last run is computed as one."""
    out = net(x)
    return "Tiled" in out.grad_fn.name() or "Tiled" in out.grad_fn.next_functions[0][0].name()


def outcome(net, x):
    """Return output, input gradient, gradients of what is not a matrix, running statistics."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = net(x)
    out.square().sum().backward()
    others = [p.grad for p in net.parameters() if p.dim() == 1 and p.grad is not None]
    sizes = {name: p.grad.norm() for name, p in net.named_parameters() if p.grad is not None}
    norms = [sizes[name] for name in sizes if name.endswith(("weight", "values"))]
    buffers = [b for name, b in net.named_buffers() if "running" in name or "batches" in name]
    vectors = [g for g in others if g.numel() <= 32]
    return [out.detach(), x.grad, *buffers, *norms], vectors


def same(nets, x):
    """Compare networks; gradients of biases before normalisation are zero but for rounding."""
    (mine, vectors), (theirs, of_theirs) = (outcome(net, x) for net in nets)
    torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-3)
    for a, b in zip(
        (v for v in vectors if len(v) == 8), (v for v in of_theirs if len(v) == 8), strict=False
    ):
        assert a.isfinite().all() and b.isfinite().all()


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("last", [False, True])
def test_plain_sequences(group, last):
    nets = pair(plain, group=group)
    x = torch.randn(5, 4, 8, 8)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    assert chained(copy.deepcopy(nets[1]), x)
    assert nets[1](x).is_contiguous(memory_format=torch.channels_last) == last
    nets[0](x)
    same(nets, x)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(nets[1](x).flatten(1).sum(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last) == last
    x.requires_grad_(False)
    nets[0](x)
    for net in nets:
        net[5].momentum = None
        net[1].eval()
    same(nets, x)
    with torch.no_grad():
        torch.testing.assert_close(*(net.eval()(x) for net in nets), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [small, lambda: of_torchvision(lambda m: m.BasicBlock),
     lambda: of_torchvision(lambda m: m.Bottleneck)],
    ids=["own", "basic", "bottleneck"],
)  # fmt: skip
def test_residual_blocks(make):
    nets = pair(make)
    x = torch.randn(6, 8 if make is not small else 4, 6, 6)
    assert chained(copy.deepcopy(nets[1]), x)
    same(nets, x)
    assert nets[1].state_dict().keys() >= {k for k in nets[0].state_dict() if "norm" in k}


def of_norms(net):
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    return [parameter.grad for norm in norms for parameter in norm.parameters()]


def pooled():
    """Return what VGG-like networks have, and normalisation by itself."""
    first = [nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(8)]
    second = [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.AvgPool2d(3, 1), nn.ReLU()]
    third = [nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 1), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*first, *second, *third)


def test_pooling_stays_in_tiles():
    nets, x = pair(pooled), torch.randn(5, 4, 9, 8)
    assert chained(copy.deepcopy(nets[1]), x) and len(list(conv_runs(nets[1]))) == 1
    same(nets, x)
    torch.testing.assert_close(*map(of_norms, nets), rtol=1e-3, atol=1e-3)
    x.requires_grad_()
    found = []
    for net in nets:
        (slope,) = torch.autograd.grad(net(x).pow(3).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        for net in nets:
            net.eval()[-1].output_size = 2  # 3 pixels are no multiple: module by module
        torch.testing.assert_close(*(net(x) for net in nets), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "module",
    [nn.MaxPool2d(2, dilation=2), nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(3, 1, 1),
     nn.AvgPool2d(2, divisor_override=3), nn.MaxPool2d(2, return_indices=True), nn.LPPool2d(2, 2)],
    ids=str,
)  # fmt: skip
def test_other_pooling_ends_a_run(module):
    assert not is_pooling(module)


def wide():
    return nn.Sequential(WideBlock(4, 8, 1), WideBlock(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())


def test_blocks_with_normalisation_in_front():
    nets, x = pair(wide, dense=("0.shortcut",)), torch.randn(6, 4, 6, 6)
    assert chained(copy.deepcopy(nets[1]), x) and len(list(conv_runs(nets[1]))) == 1
    same(nets, x)
    torch.testing.assert_close(*map(of_norms, nets), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(*(net.eval()(x) for net in nets), rtol=1e-4, atol=1e-4)
    net = pair(lambda: nn.Sequential(WideBlock(8, 8, 1)))[1]
    x = torch.randn(6, 8, 6, 6, requires_grad=True)
    assert chained(copy.deepcopy(net), x)
    (slope,) = torch.autograd.grad(copy.deepcopy(net)(x).pow(2).sum(), x)
    (again,) = torch.autograd.grad(net(x).pow(2).sum(), x, create_graph=True)
    torch.testing.assert_close(slope, again, rtol=1e-3, atol=1e-3)


class Mine(nn.Module):
    """A block without normalisation in front of the sum."""

    def __init__(self):
        super().__init__()
        self.one, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, affine=False)
        self.round = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return F.relu(self.norm(self.one(x)) + self.round(x))


def test_a_block_of_ones_own():
    nets = pair(lambda: nn.Sequential(Mine()), dense=("0.round",))
    x = torch.randn(6, 4, 6, 6)
    assert not chained(nets[1], x)
    chains(Mine)(lambda block: Parts([(block.one, block.norm)], block.round))
    nets = pair(lambda: nn.Sequential(Mine()), dense=("0.round",))
    assert chained(copy.deepcopy(nets[1]), x)
    same(nets, x)


def test_samples_are_evaluated_some_after_others(monkeypatch):
    """Each tile gives the same numbers, whichever others there are, and shortcuts go along."""
    net = pair(lambda: nn.Sequential(WideBlock(4, 8, 1)), dense=("0.shortcut",))[1].eval()
    x = torch.randn(70, 4, 6, 6).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        whole = net(x)
        monkeypatch.setattr(conv_chain, "_PIECE", 1)
        assert torch.equal(net(x), whole)
        assert net(x).is_contiguous(memory_format=torch.channels_last)
        net.train()
        assert net(x).shape == whole.shape


def test_who_looks_in_cuts_the_run():
    nets, x, seen = pair(small), torch.randn(6, 4, 6, 6), []
    for net in nets:
        net[1].first_norm.register_forward_hook(lambda *_: seen.append(1))
    same(nets, x)
    assert len(seen) == 2


def test_frozen_parameters_and_second_derivatives():
    net = pair(plain)[1]
    net[0].requires_grad_(False)
    net[1].requires_grad_(False)
    x = torch.randn(5, 4, 8, 8, requires_grad=True)
    net(x).sum().backward()
    assert net[0].values.grad is None and net[1].weight.grad is None and x.grad is not None
    assert net[4].values.grad is not None and net[5].bias.grad is not None
    (slope,) = torch.autograd.grad(net(x).pow(3).sum(), x)
    (again,) = torch.autograd.grad(net(x).pow(3).sum(), x, create_graph=True)
    torch.testing.assert_close(slope, again, rtol=1e-3, atol=1e-3)
    again.square().sum().backward()
    assert net[4].values.grad.isfinite().all()


def test_copies_and_networks_in_float64_give_the_same():
    net, x = pair(small)[1].eval(), torch.randn(6, 4, 6, 6)
    out = net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), out) and chained(other, x)
    torch.testing.assert_close(net.double()(x.double()).float(), out, rtol=1e-4, atol=1e-4)


def test_growth_by_gradients_is_that_of_masks():
    nets = []
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = plain()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        config = SparseConfig(method="rigl", sparsity=0.7, update_every=2, backend=backend)
        engine = sparsify(net, config, optimizer, roles={"*": "hidden"})
        for step in range(5):
            x = torch.randn(20, 4, 8, 8, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        nets.append(engine)
    assert nets[0].updates == nets[1].updates == 2
    for masked, condensed in zip(*(engine.tensors for engine in nets), strict=True):
        assert torch.equal(masked.active(), condensed.active())


@pytest.mark.slow
def test_compiled_networks_give_the_same():
    net, x = pair(small)[1].eval(), torch.randn(6, 4, 6, 6)
    torch.testing.assert_close(torch.compile(net, backend="eager")(x), net(x))
