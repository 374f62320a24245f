"""The graph of users and items, and its product with the vectors of their nodes.

    A[u, i] = 1 / sqrt(items of u * users of i)        and the same for A[i, u]

(LightGCN, He et al. 2020, eq. 3). A is symmetric, so the gradient is a product with A as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_core.kernels.format import Pattern
from sparse_core.kernels.long_rows import rows_product
from supervised.data.rows import Rows


class Graph:
    """The normalised adjacency matrix of users, then items.

    Args:
        likes: A row of items a user.
    """

    def __init__(self, likes: Rows) -> None:
        users, nodes = len(likes), len(likes) + likes.width
        one, other = likes.owners, likes.columns + users
        keys, _ = torch.cat([one * nodes + other, other * nodes + one]).sort()
        rows, columns = keys // nodes, keys % nodes
        degrees = torch.bincount(rows, minlength=nodes)
        scale = torch.where(degrees > 0, degrees.double().rsqrt(), 0.0)
        self.pattern = Pattern.from_lengths(columns.numpy(), degrees.numpy(), nodes, nodes)
        self.values = (scale[rows] * scale[columns]).float().numpy()

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """Return the product with `(nodes, size) float32`, differentiable."""
        found: Tensor = _Product.apply(vectors, self)  # type: ignore[no-untyped-call]
        return found

    def times(self, vectors: Tensor) -> Tensor:
        """Return the product, without a gradient."""
        x = np.ascontiguousarray(vectors.detach().numpy())
        threads = torch.get_num_threads()
        return torch.from_numpy(rows_product(self.pattern, self.values, x, threads=threads))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, graph: Graph) -> Tensor:
        ctx.graph = graph
        return graph.times(vectors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        found: Tensor = _Product.apply(gradient, ctx.graph)  # type: ignore[no-untyped-call]
        return found, None
