"""Gradients of gradients, tangents and changes in place: condensed layers have what masks have."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad, grad, gradcheck, gradgradcheck
from torch.autograd.functional import hessian, hvp
from torch.func import functional_call, jacfwd, jacrev, jvp, vmap
from torch.func import grad as grad_of

from sparse_core import SparseConfig, condense, sparsify
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import CondensedLinear, become_condensed
from sparse_core.layers.condensed_conv import become_condensed_conv
from sparse_core.layers.embedding import become_condensed_embedding, become_masked_embedding

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script:DeprecationWarning"
)  # torch's own

BACKENDS = ("masked", "condensed")
DOUBLE = torch.float64


def net(backend, dtype=torch.float32):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 12), nn.ReLU())
    module = module.append(nn.Linear(12, 1)).to(dtype)
    sparsify(module, SparseConfig(method="static", sparsity=0.5, backend=backend, seed=3))
    kinds = {type(layer) for layer in module if isinstance(layer, nn.Linear)}
    assert (CondensedLinear in kinds) == (backend == "condensed")
    return module


def scattered(module, gradients):
    """Gradients of values as `(out, in)` matrices, those of dense parameters as they are."""
    names = [name for name, _ in module.named_parameters()]
    result = []
    for name, gradient in zip(names, gradients, strict=True):
        layer = module.get_submodule(name.rpartition(".")[0])
        if name.endswith("values"):
            gradient = torch.from_numpy(layer.pattern.expand(gradient.numpy()))
        elif name.endswith("weight"):
            gradient = gradient * layer.weight_mask
        result.append(gradient)
    return result


def close(ours, theirs, dtype=torch.float32):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("inner", [torch.sum, lambda y: y.pow(2).sum()], ids=["sum", "square"])
def test_a_gradient_penalty_trains_as_it_does_with_masks(inner, dtype):
    results = []
    for backend in BACKENDS:
        module = net(backend, dtype)
        x = torch.linspace(-1, 1, 128, dtype=dtype).reshape(16, 8).requires_grad_()
        (slope,) = grad(inner(module(x)), x, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).pow(2).mean()
        gradients = grad(penalty + module(x.detach()).mean(), [x, *module.parameters()])
        results.append([slope.detach(), gradients[0], *scattered(module, gradients[1:])])
    assert all(gradient.any() for gradient in results[0])
    close(results[1], results[0], dtype)


def test_a_penalty_by_hand():
    """y = w1 tanh(w0 x): y' = w1 w0 (1 - t^2), and of its square the derivative by w0."""
    first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for layer, weight in ((first, 2.0), (second, 3.0)):
        nn.init.constant_(layer.weight, weight)
        become_condensed(layer, torch.ones(1, 1, dtype=torch.bool))
    x = torch.tensor([[0.5]], requires_grad=True)
    (slope,) = grad(CondensedSequential(first, nn.Tanh(), second)(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    t = torch.tanh(torch.tensor(1.0))
    rest = 1 - t**2
    torch.testing.assert_close(slope.detach(), torch.full((1, 1), 6 * rest))
    by_first = 2 * 6 * rest * (3 * rest - 6 * 2 * t * rest * 0.5)
    torch.testing.assert_close(first.values.grad, by_first.reshape(1))
    torch.testing.assert_close(second.values.grad, (2 * 6 * rest * 2 * rest).reshape(1))
    torch.testing.assert_close(x.grad, (2 * 6 * rest * 6 * -2 * t * rest * 2).reshape(1, 1))


@pytest.mark.parametrize("vectorize", [False, True])
def test_hessians(vectorize):
    x = torch.linspace(-1, 1, 8)
    found = []
    for backend in BACKENDS:
        module = net(backend)

        def loss(q, module=module):
            return module(q[None]).pow(2).sum()

        found.append([hessian(loss, x, vectorize=vectorize), hvp(loss, x, torch.ones(8))[1]])
    assert found[0][0].abs().sum() > 0.01 and found[0][1].abs().sum() > 0.01
    close(found[1], found[0])


def test_a_hessian_by_the_parameters():
    """The data needs no gradient, and values of several layers are differentiated by each other."""
    products = []
    for backend in BACKENDS:
        module, x = net(backend), torch.linspace(-1, 1, 32).reshape(4, 8)
        parameters = list(module.parameters())
        first = grad(module(x).pow(2).sum(), parameters, create_graph=True)
        second = grad(sum(gradient.sum() for gradient in first), parameters)
        products.append(scattered(module, second))
    close(products[1], products[0])


def test_third_derivatives():
    found = []
    for backend in BACKENDS:
        module, x = net(backend), torch.linspace(-1, 1, 8).reshape(1, 8).requires_grad_()
        value = module(x).sum()
        for _ in range(3):
            (slope,) = grad(value, x, create_graph=True)
            value = slope.pow(2).sum()
        found.append(slope.detach())
    assert found[0].any()
    close(found[1], found[0])


def test_numerical_derivatives():
    module = net("condensed", DOUBLE)
    x = torch.randn(3, 8, dtype=DOUBLE, requires_grad=True)
    assert gradcheck(module, (x,), check_batched_grad=True)
    assert gradgradcheck(module, (x,))
    names, parameters = zip(*module.named_parameters(), strict=True)

    def of_parameters(*tensors):
        return functional_call(module, dict(zip(names, tensors, strict=True)), (x.detach(),))

    assert gradcheck(of_parameters, parameters) and gradgradcheck(of_parameters, parameters)


def test_a_weight_that_follows_from_the_input_is_differentiated_once():
    """A hypernetwork: the values of the layer are a function of what it is applied to."""
    layer = nn.Linear(3, 2, bias=False)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    become_condensed(layer, mask)
    x = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)

    def ours(q):
        return functional_call(layer, {"values": q.reshape(-1).exp()}, (q,))

    def theirs(q):
        weight = torch.zeros(2, 3).masked_scatter(mask, q.reshape(-1).exp())
        return q @ weight.T

    slopes = [grad(f(x).pow(2).sum(), x, create_graph=True)[0] for f in (ours, theirs)]
    close(*slopes)
    close(*[grad(slope.pow(2).sum(), x)[0] for slope in slopes])


def test_an_embedding():
    torch.manual_seed(0)
    mask = torch.rand(10, 6) < 0.5
    masked, tokens = nn.Embedding(10, 6), torch.tensor([[1, 4, 4]])
    become_masked_embedding(masked, mask)
    condensed = copy.deepcopy(masked)
    become_condensed_embedding(condensed, mask)
    head = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(18, 1))
    seconds = []
    for layer, weight in ((masked, masked.weight), (condensed, condensed.values)):
        (first,) = grad(head(layer(tokens)).pow(2).sum(), weight, create_graph=True)
        seconds += grad(first.pow(2).sum(), weight)
    close(torch.from_numpy(condensed.pattern.expand(seconds[1].numpy())), seconds[0])
    assert seconds[0].any()


def test_a_convolution():
    torch.manual_seed(0)
    masked = nn.Conv2d(2, 4, 3)
    sparsify(masked, SparseConfig(method="static", sparsity=0.5))
    condensed = copy.deepcopy(masked)
    become_condensed_conv(condensed, condensed.weight_mask != 0)
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    found = []
    for layer, weight in ((masked, masked.weight), (condensed, condensed.values)):
        (slope,) = grad(layer(x).tanh().sum(), x, create_graph=True)
        by_input, by_weight = grad(slope.pow(2).sum(), [x, weight])
        if layer is condensed:
            matrix = layer.pattern.expand(by_weight.numpy())
            by_weight = torch.from_numpy(matrix).reshape(4, 2, 3, 3)
        found.append([slope.detach(), by_input, by_weight])
    assert all(part.any() for part in found[0])
    close(found[1], found[0])


@pytest.mark.parametrize("fields", [
    dict(method="rigl"),
    dict(method="rigl", gradient_steps=2, update_every=2),
    dict(method="rigl", growth="momentum"),
    dict(method="gse", growth="sampled_grabo"),
], ids=str)  # fmt: skip
def test_growth_sees_the_gradient_of_a_penalty(fields):
    """As in WGAN-GP: the slope itself is no part of the loss, and a saliency map is not either."""
    results = []
    for backend in BACKENDS:
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 16), nn.ReLU())
        critic.append(nn.Linear(16, 1))
        optimizer = torch.optim.SGD(critic.parameters(), 0.05)
        config = dict(sparsity=0.7, update_every=1, horizon=100, seed=1, backend=backend)
        engine = sparsify(critic, SparseConfig(**config | fields), optimizer)
        for step in range(6):
            generator = torch.Generator().manual_seed(step)
            real, fake = torch.randn(2, 16, 8, generator=generator)
            optimizer.zero_grad()
            (critic(real).mean() - critic(fake).mean()).backward()
            x = ((real + fake) / 2).requires_grad_()
            grad(100 * critic(x).sum(), x)
            (slope,) = grad(critic(x).sum(), x, create_graph=True)
            (10 * (slope.norm(dim=1) - 1).pow(2).mean()).backward()
            optimizer.step()
        assert engine.updates > 0
        results.append([tensor.active() for tensor in engine.tensors])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("backend", BACKENDS)
def test_growth_does_not_see_a_gradient_of_the_input_alone(backend):
    module = net(backend)
    taps = [tensor.tap for tensor in module.sparse_engine.tensors]
    for tap in taps:
        tap.arm(True)
        tap.wants_signals = True
    x = torch.randn(4, 8, requires_grad=True)
    grad(module(x).sum(), x)
    assert not any(tap.flowed or tap.inputs for tap in taps)
    module(x).sum().backward()
    assert all(tap.flowed and tap.inputs for tap in taps)


@pytest.mark.parametrize("how", ["trained", "no_grad", "frozen"])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_forward_mode(how, dtype):
    x, direction = torch.randn(2, 5, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))
    tangents = []
    for backend in BACKENDS:
        module = net(backend, dtype).requires_grad_(how != "frozen")
        with forward_ad.dual_level(), torch.set_grad_enabled(how != "no_grad"):
            dual = forward_ad.make_dual(x, direction)
            tangents.append(forward_ad.unpack_dual(module(dual)).tangent.detach())
    assert tangents[0].any()
    close(tangents[1], tangents[0], dtype)


def test_function_transforms():
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for backend in BACKENDS:
        module = net(backend)
        state = dict(module.named_parameters())

        def loss(parameters, q, module=module):
            return functional_call(module, parameters, (q[None],)).sum()

        each = vmap(grad_of(loss), in_dims=(None, 0))(state, x)
        mean = [gradient.mean(0) for gradient in each.values()]
        mean = [mean[list(each).index(name)].detach() for name in state]
        found.append([
            *scattered(module, mean),
            vmap(grad_of(lambda q, m=module: m(q[None]).sum()))(x).detach(),
            jacfwd(module)(x[0]).detach(),
            jacrev(module)(x[0]).detach(),
            jvp(module, (x,), (torch.ones_like(x),))[1].detach(),
        ])  # fmt: skip
    close(found[1], found[0])


def test_an_embedding_has_tangents_and_transforms():
    torch.manual_seed(0)
    mask = torch.rand(10, 6) < 0.5
    layer = nn.Embedding(10, 6, padding_idx=2)
    become_condensed_embedding(layer, mask)
    tokens = torch.tensor([[1, 2, 4], [9, 9, 0]])
    values, direction = layer.values.detach(), torch.randn(layer.values.shape)

    def looked_up(numbers):
        return functional_call(layer, {"values": numbers}, (tokens,))

    dense = torch.zeros(10, 6).masked_scatter(mask, direction)
    tangent = jvp(looked_up, (values,), (direction,))[1]
    torch.testing.assert_close(tangent[tokens != 2], dense[tokens][tokens != 2])
    torch.testing.assert_close(vmap(layer)(tokens), layer(tokens))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", ["input", "output"])
def test_a_change_in_place_before_the_backward_pass_is_noticed(backend, what):
    layer = nn.Sequential(nn.Linear(4, 8), nn.Tanh()).double()
    sparsify(layer, SparseConfig(method="static", sparsity=0.5, backend=backend, dense=()))
    x = torch.ones(2, 4, dtype=DOUBLE)
    y = layer(x)
    (x if what == "input" else y.detach()).mul_(3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_kernels_read_a_copy_of_an_input_that_is_changed_in_place():
    """Unless the gradient is to be differentiated: then the input itself is needed."""
    module, x = net("condensed"), torch.randn(4, 8)
    module(x).sum().backward()
    expected = [parameter.grad.clone() for parameter in module.parameters()]
    module.zero_grad()
    out, again = module(x), module(x)
    x.mul_(3)
    out.sum().backward()
    assert all(map(torch.equal, expected, (p.grad for p in module.parameters())))
    with pytest.raises(RuntimeError, match="has been modified by an inplace operation"):
        again.sum().backward(create_graph=True)
    with torch.inference_mode():
        x = torch.randn(4, 8)
    module(x).sum().backward()


def test_a_sum_in_place_with_its_own_input_is_no_cycle():
    module = nn.Linear(8, 8)
    sparsify(module, SparseConfig(method="static", sparsity=0.5, backend="condensed", dense=()))
    x = torch.randn(4, 8)
    x += module(x)
    x.sum().backward()
    memory = weakref.ref(x)
    del x
    assert memory() is None


def test_what_is_changed_in_place_may_be_what_nothing_needs():
    layer = nn.Linear(4, 8).double()
    sparsify(layer, SparseConfig(method="static", sparsity=0.5, backend="condensed", dense=()))
    y = layer(torch.ones(2, 4, dtype=DOUBLE))
    (y.mul_(3)).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((8,), 6.0, dtype=DOUBLE))


def test_a_frozen_copy_has_derivatives_by_its_input():
    module = net("condensed")
    small = condense(module)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for one in (module, small):
        q = x.clone().requires_grad_()
        (slope,) = grad(one(q).pow(2).sum(), q, create_graph=True)
        found.append([slope.detach(), grad(slope.pow(2).sum(), q)[0]])
    close(found[1], found[0])
