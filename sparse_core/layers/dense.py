"""The way back to dense, in place, for layers of all sparse forms."""

from __future__ import annotations

from torch import nn


class Sparse(nn.Module):
    """A module in a sparse form, which can take its dense one again."""

    def _take_dense_form(self, latent: bool) -> None:
        """Become dense; see `become_dense`."""
        raise NotImplementedError


def become_dense(root: nn.Module, form: type[nn.Module] = Sparse, *, latent: bool = False) -> None:
    """Turn the sparse layers of a module, or one such layer, into dense ones, in place.

    Each gets its own class again, and the weight that it computed with, zero where inactive. Names,
    biases, and whether a parameter trains, stay. Nothing is left of topologies and training.

    Args:
        root: A sparse layer, or a module that has some.
        form: Layers of this form only, such as `Masked`.
        latent: Keep the values that inactive weights of a masked layer have, instead of zeros.
    """
    for module in list(root.modules()):
        if isinstance(module, Sparse) and isinstance(module, form):
            module._take_dense_form(latent)
