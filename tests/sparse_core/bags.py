"""A network with an embedding, its training, for the tests of sparse embeddings."""

import torch
from torch import Tensor, nn

from sparse_core import SparseConfig, sparsify
from sparse_core.engine import Engine
from tests.sparse_core.networks import mlp

VOCABULARY, SIZE = 30, 12
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-4),
    "adam": lambda p: torch.optim.Adam(p, lr=3e-3),
}


class Bag(nn.Module):
    """The mean of the tokens' vectors, and a network that reads it."""

    def __init__(self, padding: int | None = None, **options: object) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, SIZE, padding, **options)
        self.net = mlp(SIZE, 16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `(batch, length)` integers to `(batch, 3)`."""
        return self.net(self.tokens(tokens).mean(1))


def made(
    backend: str = "condensed",
    padding: int | None = None,
    optimizer: str = "adam",
    dtype: torch.dtype = torch.float32,
    **fields,
) -> tuple[Bag, torch.optim.Optimizer, Engine]:
    torch.manual_seed(0)
    net = Bag(padding).to(dtype)
    trainer = OPTIMIZERS[optimizer](net.parameters())
    fields = dict(sparsity=0.6, update_every=10, horizon=400) | fields
    return (
        net,
        trainer,
        sparsify(net, SparseConfig(embeddings=True, backend=backend, **fields), trainer),
    )


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        tokens = torch.randint(
            VOCABULARY, (16, 5), generator=torch.Generator().manual_seed(1000 + step)
        )
        wanted = torch.stack([tokens.float().mean(1) / VOCABULARY, (tokens % 3 == 0).sum(1) / 5], 1)
        optimizer.zero_grad()
        out = net(tokens)[:, :2]
        nn.functional.mse_loss(out, wanted.to(out.dtype)).backward()
        optimizer.step()
