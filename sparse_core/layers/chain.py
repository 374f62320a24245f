"""Runs of condensed layers and the activations between them, computed together."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.dense import Sparse
from sparse_core.layers.fused import forbid_fused_encoders
from sparse_core.layers.links import ACTIVATIONS, activation_of
from sparse_core.layers.passes import run
from sparse_core.layers.torch_path import opaque

_run = opaque(run)


class CondensedSequential(Sparse, nn.Sequential):
    """`nn.Sequential` that runs its condensed layers and the activations between them as chains."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the modules in order."""
        for steps in _runs(self):
            input = steps[0](input) if len(steps) == 1 else _run(steps, input)
        return input

    def _take_dense_form(self, latent: bool) -> None:
        self.__class__ = nn.Sequential  # type: ignore[assignment]


def _runs(modules: nn.Sequential) -> Iterator[list[nn.Module]]:
    steps: list[nn.Module] = []
    for module in modules:
        last = steps[-1] if steps else None
        follows = isinstance(last, CondensedLinear) and activation_of(module, last) is not None
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
    if found is None or len(found) != 1 or not isinstance(found[0][0], CondensedLinear):
        return None
    return found[0]


def neighbours(root: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """List the linear layers that would follow each other in one chain, were they condensed."""
    pairs: list[tuple[nn.Module, nn.Module]] = []
    for sequence in root.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        before: nn.Module | None = None
        for module in sequence:
            if isinstance(module, nn.Linear) and not watched(module):
                if before is not None:
                    pairs.append((before, module))
                before = module
            elif type(module) not in ACTIVATIONS or watched(module):
                before = None
    return pairs


def watched(module: nn.Module) -> bool:
    """Whether a module has forward or backward hooks."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def chain(root: nn.Module) -> None:
    """Let each `nn.Sequential` in a module run its condensed layers as chains, in place."""
    forbid_fused_encoders(root)
    for module in root.modules():
        if type(module) is nn.Sequential and any(isinstance(m, CondensedLinear) for m in module):
            module.__class__ = CondensedSequential
