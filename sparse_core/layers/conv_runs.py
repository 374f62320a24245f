"""Which condensed convolutions of a sequence are computed together, and what is between them.

Convolutions, batch normalisation, ReLU, pooling and residual blocks
(`sparse_core.layers.conv_blocks`) that follow each other are one run. Anything else ends it: dense
layers, modules with hooks, normalisation of another kind. A shortcut that is a layer of its own is
computed apart, so its block begins a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from sparse_core.kernels.conv_stages import GIVEN
from sparse_core.layers.condensed_conv import CondensedConv2d
from sparse_core.layers.conv_blocks import Parts, parts_of
from sparse_core.layers.conv_pooling import is_pooling
from sparse_core.layers.passing import passes_through, watched


@dataclass(frozen=True)
class Step:
    """A convolution or a pooling of a run, and what comes behind it in this order.

    Attributes:
        layer: The convolution, or None.
        pool: The pooling; None beside no convolution: images stay as they are.
        norm: The normalisation, or None.
        added: The step whose input is added, itself or an earlier one;
            `sparse_core.kernels.conv_stages.GIVEN`: the shortcut; None: nothing is.
        relu: Whether there is a ReLU.
    """

    layer: CondensedConv2d | None = None
    pool: nn.Module | None = None
    norm: nn.BatchNorm2d | None = None
    added: int | None = None
    relu: bool = False

    @property
    def bare(self) -> bool:
        """Whether nothing comes behind."""
        return self.norm is None and self.added is None and not self.relu


@dataclass
class ConvRun:
    """Modules of a sequence that can be computed together.

    Attributes:
        modules: All of them, in order.
        steps: Their convolutions and poolings.
        begin: A normalisation, with ReLU behind it, in front of all steps; None: there is none.
        shortcut: What computes the images that are added as `GIVEN` from what the steps are given.
    """

    modules: list[nn.Module] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    begin: nn.BatchNorm2d | None = None
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
        elif self.steps and is_pooling(module):
            taken = not watched(module)
            self.steps += [Step(pool=module)] if taken else []
        elif self.steps and type(module) is nn.BatchNorm2d:
            taken = not watched(module)
            self._normalise(module) if taken else None
        elif self.steps and type(module) is nn.ReLU:
            taken = not watched(module)
            self.steps[-1] = replace(self.steps[-1], relu=self.steps[-1].relu or taken)
        else:
            taken = (bool(self.steps) and passes_through(module)) or self._takes_block(module)
        self.modules += [module] if taken else []
        return taken

    def _normalise(self, norm: nn.BatchNorm2d) -> None:
        if not self.steps[-1].bare:
            self.steps.append(Step())
        self.steps[-1] = replace(self.steps[-1], norm=norm)

    def _takes_block(self, block: nn.Module) -> bool:
        parts = parts_of(block)
        apart = parts is not None and parts.shortcut is not None
        if parts is None or not _can_be_taken(parts) or (apart and self.steps):
            return False
        if parts.before:
            self._take_pre_activation(parts)
        else:
            added = GIVEN if apart else len(self.steps)
            steps = [Step(conv, norm=norm, relu=parts.relu) for conv, norm in parts.pairs]  # type: ignore[arg-type]
            self.steps += [*steps[:-1], replace(steps[-1], added=added)]
        self.shortcut = self.shortcut or parts.shortcut
        return True

    def _take_pre_activation(self, parts: Parts) -> None:
        convolutions = [conv for conv, _ in parts.pairs]
        first, *norms = [norm for _, norm in parts.pairs]
        added = GIVEN
        if parts.shortcut is None:
            added = len(self.steps)
            self.steps.append(Step(norm=first, relu=True))  # type: ignore[arg-type]
        else:
            self.begin = first  # type: ignore[assignment]
        for conv, norm in zip(convolutions, norms, strict=False):
            self.steps.append(Step(conv, norm=norm, relu=True))  # type: ignore[arg-type]
        self.steps.append(Step(convolutions[-1], added=added))  # type: ignore[arg-type]


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
    whole = len(run.steps) > 1 or any(not step.bare for step in run.steps)
    return [run] if whole else [*run.modules]


def _can_be_taken(parts: Parts) -> bool:
    """Whether the convolutions of a block are condensed, and normalised as kernels do it."""
    norms = [norm for _, norm in parts.pairs if norm is not None]
    return (
        bool(parts.pairs)
        and all(isinstance(layer, CondensedConv2d) for layer, _ in parts.pairs)
        and all(type(norm) is nn.BatchNorm2d for norm in norms)
        and (len(norms) == len(parts.pairs) or not parts.before)
    )
