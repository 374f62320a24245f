import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparse_core.building import sparsify
from sparse_core.config import SparseConfig
from sparse_core.metrics import (
    ActivationMeter,
    GradientNoise,
    dormant_fraction,
    dormant_scores,
    gradient_snr,
)


def network(method="static", **settings):
    """Make 4 -> 3 -> 2 with 11 of its 18 weights active, and return its engine."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    config = SparseConfig(method=method, sparsity=0.4, distribution="uniform", **settings)
    return sparsify(net, config)


# Dormant neurons ----------------------------------------------------------------------------------


def test_dormant_scores_by_hand():
    activations = torch.tensor([[1.0, 0, 5, 0], [-1.0, 0, 7, 2]])
    assert dormant_scores(activations).tolist() == [0.5, 0, 3, 0.5]  # 1, 0, 6 and 1 over 2


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 7),
    st.floats(0.1, 100),
    st.integers(0, 2**31),
)
def test_dormant_scores_average_one_and_do_not_depend_on_scale(batch, width, scale, seed):
    draws = torch.randn(batch, width, generator=torch.Generator().manual_seed(seed)).double()
    scores = dormant_scores(draws)
    assert float(scores.mean()) == pytest.approx(1)
    assert torch.allclose(dormant_scores(draws * scale), scores)


def test_a_silent_layer_is_dormant_and_a_broken_one_is_not():
    assert dormant_scores(torch.zeros(2, 3)).tolist() == [0, 0, 0]
    assert not bool((dormant_scores(torch.tensor([[1.0, math.nan]])) <= 1).any())


def test_filters_are_the_neurons_of_a_convolution():
    activations = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]])  # one sample, two filters, two pixels
    assert dormant_scores(activations, dim=1).tolist() == [2, 0]


def fixed_net(activation):
    """Make 2 -> 4 -> 1; on the inputs (1, 0) and (0, 1) ReLU gives 1 0 0.02 2 and 1 0 0.02 0."""
    net = nn.Sequential(nn.Linear(2, 4), activation, nn.Linear(4, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 1], [-1, -1], [0.02, 0.02], [2, 0]]))
        net[0].bias.zero_()
    return net


@pytest.mark.parametrize(("tau", "fraction"), [(0.0, 1 / 4), (0.03, 1 / 4), (0.05, 2 / 4), (2, 1)])
def test_dormant_fraction_by_hand(tau, fraction):
    # E|h| = 1, 0, 0.02, 1; mean 0.505; scores 1.98, 0, 0.0396, 1.98; the output layer is left out.
    assert dormant_fraction(fixed_net(nn.ReLU()), torch.eye(2), tau=tau) == fraction


def test_dormant_fraction_looks_at_the_function_that_is_applied():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = fixed_net(nn.ReLU())[0]

        def forward(self, x):
            return F.relu(self.layer(x))

    assert dormant_fraction(Functional(), torch.eye(2), activation=F.relu) == 1 / 4
    with pytest.raises(ValueError, match="Functional: no activation module ran after a layer"):
        dormant_fraction(Functional(), torch.eye(2))
    assert dormant_fraction(fixed_net(nn.Identity()), torch.eye(2), activation=torch.tanh) == 0


def test_the_meter_averages_over_batches_of_any_size():
    net = fixed_net(nn.ReLU())
    with ActivationMeter(net) as apart:
        net(torch.eye(2)[:1])
        net(torch.eye(2)[1:].repeat(3, 1))
    with ActivationMeter(net) as together:
        net(torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]]))
    assert torch.equal(apart.scores()["0"], together.scores()["0"])
    assert apart.dormancy().dormant == {"0": 1}
    assert apart.dormancy().total == {"0": 4}


def test_convolutions_and_reused_activations_are_told_apart():
    relu = nn.ReLU(inplace=True)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), relu, nn.Flatten(), nn.Linear(8, 3), relu)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -1]).reshape(2, 1, 1, 1))
        net[0].bias.zero_()
        net[3].weight.fill_(1)
        net[3].bias.copy_(torch.tensor([0.0, 0, -100]))
    with ActivationMeter(net) as meter:
        net(torch.ones(5, 1, 2, 2))
    assert meter.dormancy().dormant == {"0": 1, "3": 1}
    assert meter.dormancy().total == {"0": 2, "3": 3}


def test_measuring_leaves_the_network_and_its_engine_as_they_were():
    engine = network("rigl")
    net = engine.root
    engine.tensors[0].tap.arm(True)
    net[1].eval()
    before = copy.deepcopy(net.state_dict())
    dormant_fraction(net, torch.randn(3, 4))
    assert [module.training for module in net] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert engine.tensors[0].tap.value is None
    assert not any(module._forward_hooks for module in net.modules())


# Noise of gradients -------------------------------------------------------------------------------


def test_ratio_of_gradients_by_hand():
    noise = GradientNoise()
    for gradient in ([1.0, 2, -4, 0], [3.0, 2, 4, 0], [2.0, 2, -6, 0]):
        noise.add(torch.tensor(gradient))
    ratio = noise.ratio()
    assert noise.count == 3
    assert ratio[:3].tolist() == pytest.approx([2, math.nan, 2 / math.sqrt(28)], nan_ok=True)
    assert math.isnan(ratio[3])


def test_one_gradient_has_no_ratio():
    noise = GradientNoise()
    noise.add(torch.ones(2))
    with pytest.raises(ValueError, match="1 gradients: the ratio needs at least 2 micro-batches"):
        noise.ratio()


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 5), st.floats(0.01, 100), st.integers(0, 2**31))
def test_ratio_is_that_of_all_gradients_and_does_not_depend_on_scale(count, size, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(count, size, generator=generator, dtype=torch.float64)
    noise, scaled = GradientNoise(), GradientNoise()
    for gradient in gradients:
        noise.add(gradient)
        scaled.add(gradient * scale)
    expected = gradients.mean(0).abs() / gradients.std(0)
    assert torch.allclose(noise.ratio(), expected)
    assert torch.allclose(scaled.ratio(), expected)


def test_pure_noise_measures_as_the_square_root_of_2_over_pi_m():
    noise = GradientNoise()
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        noise.add(torch.randn(50_000, generator=generator))
    # The mean over 50,000 weights has a standard error of 0.0003; 1 / std adds 0.8 % to it.
    expected = math.sqrt(2 / (math.pi * 100)) * (1 + 3 / 400)
    assert float(noise.ratio().mean()) == pytest.approx(expected, abs=0.001)


def test_gradients_of_active_and_inactive_weights_are_both_measured():
    net = nn.Sequential(nn.Linear(3, 1, bias=False))
    engine = sparsify(net, SparseConfig(method="rigl", sparsity=1 / 3))
    engine.tensors[0].start(torch.tensor([[True, True, False]]))
    # The loss is the output, so the gradient is the input: means 2, 1, 4; stds 1, 0, 8 / sqrt(2).
    batches = [torch.tensor([[1.0, 1, 0]]), torch.tensor([[3.0, 1, 8]])]
    (ratio,) = gradient_snr(engine, lambda x: net(x).sum(), batches).values()
    assert ratio.active == pytest.approx(2 / math.sqrt(2))
    assert ratio.inactive == pytest.approx(4 / (8 / math.sqrt(2)))
    assert ratio.overall == pytest.approx((ratio.active + ratio.inactive) / 2)


def test_measuring_gradients_disturbs_neither_grad_nor_growth():
    engine = network("rigl")
    net = engine.root
    for tensor in engine.tensors:
        tensor.tap.arm(True)
    net(torch.ones(2, 4)).square().sum().backward()
    grads = [parameter.grad.clone() for parameter in net.parameters()]
    taps = [tensor.tap.value.clone() for tensor in engine.tensors]
    batches = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    ratios = gradient_snr(engine, lambda x: net(x).square().mean(), batches)
    assert set(ratios) == {"0.weight", "2.weight"}
    assert all(ratio.overall > 0 for ratio in ratios.values())
    for parameter, grad in zip(net.parameters(), grads, strict=True):
        assert torch.equal(parameter.grad, grad)
    for tensor, value in zip(engine.tensors, taps, strict=True):
        assert tensor.tap.armed
        assert torch.equal(tensor.tap.value, value)


def test_gradients_are_compared_over_two_batches_at_least():
    engine = network("rigl")
    net = engine.root
    with pytest.raises(ValueError, match="at least 2 micro-batches"):
        gradient_snr(engine, lambda x: net(x).sum(), [torch.ones(1, 4)])
    assert not engine.tensors[0].tap.armed


def test_a_dense_network_has_no_growth_gradients():
    engine = network("dense")
    net = engine.root
    assert gradient_snr(engine, lambda x: net(x).sum(), [torch.ones(1, 4)]) == {}
