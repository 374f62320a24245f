"""What tests of exports have in common."""

from types import SimpleNamespace

from torch import nn
from torch.distributions import Normal

from sparse_core.weights.delta import Delta
from tests.sparse_core.networks import mlp


def ablate(engine, index, rows):
    """Make neurons of one layer constant, as SRigL does."""
    tensor = engine.tensors[index]
    after = tensor.active()
    after[rows] = False
    tensor.apply(Delta.between(tensor.active(), after))


class Gaussian(nn.Module):
    """Keeps what it computed, as policies do, in an object and in a list."""

    def __init__(self):
        super().__init__()
        self.net = mlp(3, 8, 4)
        self.kept = SimpleNamespace(last=None, all=[])

    def forward(self, x):
        mean, scale = self.net(x).chunk(2, 1)
        self.kept.last = Normal(mean, scale.exp())
        self.kept.all = [self.kept.last]
        return self.kept.last.mean
