"""A branch that is added to its input."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """x + f(x), where f is a sequence of modules.

    Args:
        modules: The modules of f, in order; it maps `(..., n)` to `(..., n)`.

    Attributes:
        inner: f, an `nn.Sequential`, so that its condensed layers are computed together.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*modules)

    def forward(self, input: Tensor) -> Tensor:
        """Add the branch to its input."""
        result: Tensor = input + self.inner(input)
        return result
