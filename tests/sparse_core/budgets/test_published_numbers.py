"""Numbers that papers print. The networks live on the meta device: only their shapes matter."""

import itertools

import pytest
import torch
from torch import nn

from sparse_core.budgets.distributions import budgets
from sparse_core.budgets.patterns import structure_for
from sparse_core.budgets.selection import select
from sparse_core.config import SparseConfig
from sparse_core.metrics.flops import inference_flops
from sparse_core.metrics.training_flops import Cost, scheduled_training_flops, training_flops


def shares(net, sparsity, distribution="erk", dense=()):
    """Return the exact budget of each layer, by name."""
    config = SparseConfig(
        method="static", sparsity=sparsity, distribution=distribution, dense=dense
    )
    return budgets(select(net), config, structure_for(config.structure_in_force))


def mlp(*widths):
    with torch.device("meta"):
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("sparsity", "densities"),
    [(0.9, [".448", ".056", "1.000"]), (0.95, [".214", ".027", ".582"])],
)
def test_erk_densities_of_the_sac_actor(sparsity, densities):
    net = mlp(17, 256, 256, 6)
    active = shares(net, sparsity)
    assert [printed(active[f"{i}.weight"] / net[i].weight.numel(), 3) for i in range(3)] == (
        densities
    )


def test_erk_fan_in_of_the_sac_actor_falls_below_one_weight_a_neuron_at_99_percent():
    active = shares(mlp(17, 256, 256, 6), 0.99)
    fan_in = [active["0.weight"] / 256, active["1.weight"] / 256, active["2.weight"] / 6]
    assert [f"{fan_in[0]:.1f}", f"{fan_in[1]:.1f}", f"{fan_in[2]:.0f}"] == ["0.7", "1.4", "30"]


def test_erk_densities_of_nature_cnn_with_18_actions():
    with torch.device("meta"):
        net = nn.Sequential(
            nn.Conv2d(4, 32, 8, 4),
            nn.Conv2d(32, 64, 4, 2),
            nn.Conv2d(64, 64, 3),
            nn.Flatten(),
            nn.Linear(3136, 512),
            nn.Linear(512, 18),
        )
    active = shares(net, 0.9)
    weights = dict(net.named_parameters())
    densities = [count / weights[name].numel() for name, count in active.items()]
    assert [printed(d, 2) for d in densities] == [".26", ".13", ".15", ".09", "1.00"]


class Residual(nn.Module):
    """Convolutions beside a shortcut, which is one too where the shape changes."""

    def __init__(self, path, shortcut):
        super().__init__()
        self.path = nn.Sequential(*path)
        self.shortcut = shortcut

    def forward(self, x):
        return self.path(x) + self.shortcut(x)


def conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def residual_net(stem, block, widths, blocks, expansion, classes):
    """Stack residual blocks upon the stem; all stages but the first halve the image."""
    with torch.device("meta"):
        layers = stem()
        inputs = layers[0].out_channels
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for index in range(count):
                stride = 2 if stage and not index else 1
                outputs = width * expansion
                same = inputs == outputs and stride == 1
                shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)
                layers.append(Residual(block(inputs, width, stride), shortcut))
                inputs = outputs
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
        return nn.Sequential(*layers, *head)


def basic(inputs, width, stride):
    return [conv(inputs, width, 3, stride), conv(width, width, 3)]


def bottleneck(inputs, width, stride):
    return [conv(inputs, width, 1), conv(width, width, 3, stride), conv(width, 4 * width, 1)]


@pytest.fixture(scope="module")
def resnet18():
    """Its CIFAR variant: a 3 x 3 stem without pooling."""
    return residual_net(lambda: [conv(3, 64, 3)], basic, (64, 128, 256, 512), (2, 2, 2, 2), 1, 10)


@pytest.fixture(scope="module")
def wide_resnet():
    """WRN-22-2: three stages of three blocks, twice as wide."""
    return residual_net(lambda: [conv(3, 16, 3)], basic, (32, 64, 128), (3, 3, 3), 1, 10)


@pytest.fixture(scope="module")
def resnet50():
    """Its v1.5 variant: the 3 x 3 convolution of a block has the stride."""
    return residual_net(
        lambda: [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)],
        bottleneck,
        (64, 128, 256, 512),
        (3, 4, 6, 3),
        4,
        1000,
    )


def printed(value, digits):
    """Round to so many digits and leave out a leading zero, as tables do."""
    return f"{value:.{digits}f}".removeprefix("0")


def ratio(net, shape, *share):
    return inference_flops(net, shape, active=shares(net, *share)).ratio


LEVELS = (0.8, 0.9, 0.95, 0.99)


def test_networks_have_the_sizes_they_are_known_for(resnet18, wide_resnet, resnet50):
    assert sum(p.numel() for p in resnet18.parameters() if p.dim() > 1) == 11_164_352
    assert sum(p.numel() for p in wide_resnet.parameters() if p.dim() > 1) == 1_076_912
    assert sum(p.numel() for p in resnet50.parameters() if p.dim() > 1) == 25_502_912
    assert inference_flops(resnet18, (3, 32, 32)).dense == 2 * 555_422_720
    assert inference_flops(resnet50, (3, 224, 224)).dense == 2 * 4_089_184_256


ERK = {"resnet18": [".51", ".25", ".13", ".025"], "wide_resnet": [".35", ".17", ".09", ".018"]}
UNIFORM = [".20", ".10", ".05", ".013"]


@pytest.mark.parametrize("name", ["resnet18", "wide_resnet"])
def test_operations_of_cifar_networks(name, request):
    net = request.getfixturevalue(name)
    erk = [ratio(net, (3, 32, 32), s) for s in LEVELS]
    uniform = [ratio(net, (3, 32, 32), s, "uniform", ("input",)) for s in LEVELS]
    assert [printed(r, d) for r, d in zip(erk, (2, 2, 2, 3), strict=True)] == ERK[name]
    assert [printed(r, d) for r, d in zip(uniform, (2, 2, 2, 3), strict=True)] == UNIFORM


RESNET50 = [
    # sparsity, distribution, dense layers, ours, published inference and RigL's training 5 times
    (0.8, "erk", (), ".41", ".42", "2.09"),
    (0.9, "erk", (), ".24", ".24", "1.23"),
    (0.95, "erk", (), ".12", ".12", ".63"),
    (0.965, "erk", (), ".09", ".09", ".45"),
    (0.99, "erk", ("input",), ".05", ".05", ".29"),
    (0.8, "uniform", ("input",), ".22", ".23", "1.14"),
    (0.9, "uniform", ("input",), ".13", ".13", ".66"),
    (0.95, "uniform", ("input",), ".08", ".08", ".42"),
    (0.965, "uniform", ("input",), ".06", ".07", ".34"),
]


@pytest.mark.parametrize(
    ("sparsity", "distribution", "dense", "ours", "inference", "training"), RESNET50
)
def test_operations_of_resnet50(resnet50, sparsity, distribution, dense, ours, inference, training):
    active = shares(resnet50, sparsity, distribution, dense)
    assert printed(inference_flops(resnet50, (3, 224, 224), active=active).ratio, 2) == ours
    f_sparse, f_dense = published_count(resnet50, active), published_count(resnet50, {})
    assert printed(f_sparse / f_dense, 2) == inference
    rigl = training_flops("gradient", Cost(f_sparse, f_dense, update_every=100))
    assert printed(5 * rigl / (3 * f_dense), 2) == training


def published_count(net, active):
    """Count as RigL's own count of ResNet-50 does.

    It adds an operation for each output element (bias and ReLU less the first addition), and
    applies the first layer to 115 x 115 positions, since it pads an image that is padded already.
    """
    rows = {name: p.shape[0] for name, p in net.named_parameters()}
    total = 0
    for layer in inference_flops(net, (3, 224, 224), active=active).layers:
        positions = layer.dense // (2 * layer.weights)
        positions = 115**2 if positions == 112**2 else positions
        total += positions * (2 * layer.active + rows[layer.name])
    return total


def test_published_operations_of_dense_resnet50(resnet50):
    assert f"{published_count(resnet50, {}):.1e}" == "8.2e+09"


@pytest.mark.parametrize(("sparsity", "operations"), [(0.8, ".61"), (0.9, ".50")])
def test_published_training_operations_of_snfs_on_resnet50(resnet50, sparsity, operations):
    f_dense = published_count(resnet50, {})
    cost = Cost(published_count(resnet50, shares(resnet50, sparsity)), f_dense)
    assert printed(training_flops("momentum", cost) / (3 * f_dense), 2) == operations


def test_published_training_operations_of_pruning_resnet50(resnet50):
    f_dense = published_count(resnet50, {})

    def cost_at(thousand):
        progress = min(1, max(0, (thousand - 10) / 15))
        sparsity = 0.8 * (1 - (1 - progress) ** 3)
        active = shares(resnet50, sparsity, "uniform", ("input",))
        return Cost(published_count(resnet50, active), f_dense)

    mean = scheduled_training_flops("nothing", cost_at, 33)
    assert printed(mean / (3 * f_dense), 2) == ".56"
