"""Which condensed convolutions of a sequence are computed together, and what is between them.

Convolutions, batch normalisation, ReLU and residual blocks (`sparse_core.layers.conv_blocks`) that
follow each other are one run. Anything else ends it: pooling, dense layers, modules with hooks,
normalisation of another kind. A shortcut that is a layer of its own is computed apart, so its block
begins a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from sparse_core.kernels.conv_stages import GIVEN
from sparse_core.layers.condensed_conv import CondensedConv2d
from sparse_core.layers.conv_blocks import Parts, parts_of
from sparse_core.layers.passing import passes_through, watched


@dataclass(frozen=True)
class Step:
    """A convolution of a run, and what comes behind it in this order.

    Attributes:
        layer: The convolution.
        norm: The normalisation, or None.
        added: The step whose input is added, itself or an earlier one;
            `sparse_core.kernels.conv_stages.GIVEN`: the shortcut; None: nothing is.
        relu: Whether there is a ReLU.
    """

    layer: CondensedConv2d
    norm: nn.BatchNorm2d | None = None
    added: int | None = None
    relu: bool = False


@dataclass
class ConvRun:
    """Modules of a sequence that can be computed together.

    Attributes:
        modules: All of them, in order.
        steps: Their convolutions.
        shortcut: What computes the images that are added as `GIVEN` from the input of the run.
    """

    modules: list[nn.Module] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    shortcut: nn.Module | None = None

    def plainly(self, input: Tensor) -> Tensor:
        """Apply the modules one by one."""
        for module in self.modules:
            input = module(input)
        return input

    def takes(self, module: nn.Module) -> bool:
        """Go on with a module, if it belongs to the run; whether it does."""
        if isinstance(module, CondensedConv2d):
            taken = not watched(module)
            self.steps += [Step(module)] if taken else []
        elif type(module) is nn.BatchNorm2d and self.steps:
            last = self.steps[-1]
            taken = not watched(module) and last == Step(last.layer)
            taken = taken and module.num_features == last.layer.out_channels
            self._end(norm=module) if taken else None
        elif type(module) is nn.ReLU and self.steps:
            taken = not watched(module) and not self.steps[-1].relu
            self._end(relu=True) if taken else None
        else:
            taken = (bool(self.steps) and passes_through(module)) or self._takes_block(module)
        self.modules += [module] if taken else []
        return taken

    def _end(self, **changes: nn.BatchNorm2d | bool) -> None:
        self.steps[-1] = replace(self.steps[-1], **changes)  # type: ignore[arg-type]

    def _takes_block(self, block: nn.Module) -> bool:
        parts = parts_of(block)
        steps = None if parts is None else _steps(parts, len(self.steps))
        if parts is None or steps is None or (parts.shortcut is not None and self.steps):
            return False
        self.steps += steps
        self.shortcut = self.shortcut or parts.shortcut
        return True


def conv_runs(modules: Iterable[nn.Module]) -> Iterator[nn.Module | ConvRun]:
    """Yield the modules of a sequence in order, those of a run together."""
    run = ConvRun()
    for module in modules:
        if run.takes(module):
            continue
        yield from _ended(run)
        run = ConvRun()
        if not run.takes(module):
            yield module
    yield from _ended(run)


def _ended(run: ConvRun) -> list[nn.Module | ConvRun]:
    """Return a run, or its modules if it is a convolution alone."""
    whole = any(step != Step(step.layer) for step in run.steps)
    return [run] if whole or len(run.steps) > 1 else [*run.modules]


def _steps(parts: Parts, first: int) -> list[Step] | None:
    """Return the steps of a block, the first of them number `first`; None: it has others."""
    steps = []
    for layer, norm in parts.pairs:
        if not isinstance(layer, CondensedConv2d):
            return None
        if type(norm) is not nn.BatchNorm2d or norm.num_features != layer.out_channels:
            return None
        steps.append(Step(layer, norm, None, parts.relu))
    if not steps:
        return None
    steps[-1] = replace(steps[-1], added=first if parts.shortcut is None else GIVEN)
    return steps
