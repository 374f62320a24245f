"""What a rule sees: the moment of an update, and the scene, one weight matrix at that moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_core.checks import InputError
from sparse_core.clock import HasClock
from sparse_core.schedule import Schedule
from sparse_core.streams import stream
from sparse_core.weights.activity import Activity
from sparse_core.weights.dense_gradient import DenseGradient
from sparse_core.weights.tensor import SparseTensor


@dataclass(frozen=True)
class Moment:
    """The clock at an update.

    Attributes:
        step: Optimizer steps done.
        update: Updates done before this one.
        fraction: Fraction of the active weights to move.
        pruned: How much of the way to the final density a pruning method has gone, in [0, 1].
        last: Whether no update follows.
        progress: How much of the time until the topology is frozen has passed, in [0, 1]; 0 where
            the length of the training is unknown.
        seed: The configuration's seed.
        idle: Weights that sit this update out, since no gradient reached them.
        activity: Which neurons fired in the last forward pass; None: nobody looked.
    """

    step: int
    update: int
    fraction: float
    pruned: float = 1.0
    last: bool = False
    progress: float = 0.0
    seed: int = 0
    idle: tuple[SparseTensor, ...] = ()
    activity: Activity | None = None

    @classmethod
    def now(
        cls,
        clock: HasClock,
        schedule: Schedule,
        seed: int,
        idle: tuple[SparseTensor, ...] = (),
        activity: Activity | None = None,
    ) -> Moment:
        """Return the moment that a clock shows."""
        phase, horizon = clock.phase, clock.horizon
        return cls(
            step=clock.steps,
            update=clock.updates,
            fraction=schedule.fraction(phase, horizon),
            pruned=1.0 if horizon is None else schedule.pruned(phase, horizon),
            last=schedule.last(phase, horizon),
            progress=schedule.progress(phase, horizon),
            seed=seed,
            idle=idle,
            activity=activity,
        )


def target(tensor: SparseTensor, moment: Moment) -> int:
    """Return how many weights of a tensor are to be active at this point of the schedule."""
    way = tensor.initial_budget - tensor.budget
    return tensor.budget + round(way * (1 - moment.pruned))


@dataclass(frozen=True)
class Scene:
    """What a score may look at: one weight matrix, or some rows of it, at one update.

    Attributes:
        tensor: The sparse weight.
        moment: The clock.
        active: `(rows, cols)` bool, before the update.
        first: Row of the matrix at which these begin.
        streams: Random streams by purpose, shared by the blocks of one matrix. Blocks that draw one
            after the other get the numbers that the whole matrix would get.
    """

    tensor: SparseTensor
    moment: Moment
    active: Tensor
    first: int = 0
    streams: dict[str, torch.Generator] | None = None

    @property
    def rows(self) -> slice:
        """Which rows of the matrix these are."""
        return slice(self.first, self.first + len(self.active))

    @property
    def weight(self) -> Tensor:
        """`(rows, cols)` weights, zero where inactive unless latent."""
        return self.tensor.values(self.rows)

    @property
    def seen(self) -> Tensor | None:
        """`(rows, cols)` bool, ever active; None where the topology never moves."""
        return self.tensor.seen(self.rows)

    @property
    def gradient(self) -> Tensor:
        """`(rows, cols)` dense gradient: of the step before the update, or its mean over several.

        Raises:
            RuntimeError: If none flowed to this layer.
        """
        gradient = DenseGradient(self.tensor).rows(self.rows)
        if gradient is None:
            raise RuntimeError(
                f"layer {self.tensor.name!r}: no gradient flowed in optimizer step "
                f"{self.moment.step}, which a rule needs; keep the layer dense, grow at random, or "
                "declare the rule with needs='gradient' if it is not yet"
            )
        return gradient

    @property
    def gradient_square(self) -> Tensor:
        """`(rows, cols)` running mean of the squared dense gradient.

        Raises:
            RuntimeError: If none is kept.
        """
        square = DenseGradient(self.tensor).square_rows(self.rows)
        if square is None:
            raise RuntimeError(
                f"layer {self.tensor.name!r}: no running mean of the squared gradient is kept; "
                "declare the rule that looks at it with needs='momentum'"
            )
        return square

    @property
    def inputs(self) -> Tensor:
        """`(samples, cols)` of a linear layer, in the step before the update.

        Raises:
            RuntimeError: If none were seen, or they are not those of a linear layer.
        """
        return self._signals()[0]

    @property
    def outputs(self) -> Tensor:
        """`(samples, rows)` gradients of the outputs that belong to `inputs`, loss scale included.

        Raises:
            RuntimeError: As `inputs`.
        """
        return self._signals()[1][:, self.rows]

    def _signals(self) -> tuple[Tensor, Tensor]:
        signals = DenseGradient(self.tensor).signals()
        if signals is None:
            raise RuntimeError(
                f"layer {self.tensor.name!r}: no inputs of a linear layer were seen in optimizer "
                f"step {self.moment.step}, which a rule needs; keep the layer dense, use another "
                "rule, or declare it with needs='signals' if it is not yet"
            )
        return signals

    def generator(self, purpose: str) -> torch.Generator:
        """Return this layer's own stream at this update, for one purpose."""
        names = (purpose, self.moment.update, self.tensor.name)
        if self.streams is None:
            return stream(self.moment.seed, *names)
        if purpose not in self.streams:
            self.streams[purpose] = stream(self.moment.seed, *names)
        return self.streams[purpose]

    def random(self, purpose: str) -> Tensor:
        """Return `(rows, cols)` float64 in [0, 1) from that stream, one number a cell."""
        draws = torch.rand(
            self.active.shape, generator=self.generator(purpose), dtype=torch.float64
        )
        return self.tensor.structure.alike(draws).to(self.active.device)


Score = Callable[[Scene], Tensor]


def checked(scores: Tensor, what: str, scene: Scene) -> Tensor:
    """Return scores unchanged; raise if one is NaN or +inf (-inf means: not a candidate).

    Raises:
        InputError: If a rule returned something else than a score for each weight.
        FloatingPointError: If scores are NaN or +inf; it names the layer, the step and how many.
    """
    shape = tuple(scene.active.shape)
    fits = isinstance(scores, Tensor) and scores.is_floating_point()
    if not fits or tuple(scores.shape) != shape:
        raise InputError(
            f"layer {scene.tensor.name!r}: the {what} is {_kind(scores)}, must be a floating-point "
            f"tensor of shape {shape}"
        )
    if not scores.numel() or float(scores.max()) < math.inf:  # NaN is the largest, and not less
        return scores
    bad = scores.numel() - int((scores < math.inf).count_nonzero())
    if bad:
        raise FloatingPointError(
            f"layer {scene.tensor.name!r}: {bad} of {scores.numel()} values of the {what} are NaN "
            f"or infinite at optimizer step {scene.moment.step}; the topology was not changed"
        )
    return scores


def _kind(found: object) -> str:
    if isinstance(found, Tensor):
        return f"a tensor of shape {tuple(found.shape)} and {found.dtype}"
    return f"a {type(found).__name__}"
