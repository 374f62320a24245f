"""Runs of condensed layers and of what is between them, computed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.conv_chain import run_convolutions
from sparse_core.layers.conv_runs import ConvRun, conv_runs
from sparse_core.layers.dense import Sparse
from sparse_core.layers.kinds import own_class
from sparse_core.layers.links import activation_of
from sparse_core.layers.passes import run
from sparse_core.layers.passing import passes_through, watched
from sparse_core.layers.single import chain_of_one_sample
from sparse_core.layers.torch_path import opaque


def _short_or_long(steps: Sequence[nn.Module], input: Tensor) -> Tensor:
    out = None if torch.is_grad_enabled() else chain_of_one_sample(steps, input)
    return run(steps, input) if out is None else out


run_chain = opaque(_short_or_long)
"""`sparse_core.layers.passes.run`, which `torch.compile` does not look into."""


class CondensedSequential(Sparse, nn.Sequential):
    """`nn.Sequential` that runs its condensed layers and what is between them as chains."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the modules in order."""
        for steps in _runs(self):
            if isinstance(steps, ConvRun):
                input = run_convolutions(steps, input)
            else:
                input = steps[0](input) if len(steps) == 1 else run_chain(steps, input)
        return input

    def _take_dense_form(self, latent: bool) -> None:
        self.__class__ = own_class(self)  # type: ignore[assignment]


def _runs(modules: nn.Sequential) -> Iterator[list[nn.Module] | ConvRun]:
    steps: list[nn.Module] = []
    for module in conv_runs(modules):
        if isinstance(module, ConvRun):
            if steps:
                yield steps
            steps = []
            yield module
            continue
        if passes_through(module):
            continue
        last = steps[-1] if steps else None
        follows = isinstance(last, CondensedLinear) and activation_of(module) is not None
        if (isinstance(module, CondensedLinear) or follows) and not watched(module):
            steps.append(module)
            continue
        if steps:
            yield steps
        steps = []
        yield [module]
    if steps:
        yield steps


def whole_chain(network: CondensedSequential) -> list[nn.Module] | None:
    """Return the modules of a network that is one chain, without hooks; else None."""
    found = None if watched(network) else list(_runs(network))
    if found is None or len(found) != 1 or isinstance(found[0], ConvRun):
        return None
    return found[0] if isinstance(found[0][0], CondensedLinear) else None
