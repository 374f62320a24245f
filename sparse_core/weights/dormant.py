"""ReDo: dormant neurons start anew (Sokar et al. 2023, "The Dormant Neuron Phenomenon", Alg. 1).

Every so many optimizer steps, neurons whose score of activity is at most a threshold get

    incoming weights    new ones
    bias                zero
    outgoing weights    zero

so that the network computes what it did, and the neurons learn again. Optimizer state at these
weights starts anew, and so do step counts (Adam's) of the tensors that hold some. In a sparse
network all of this concerns active weights; masks stay as they are. Any method can have it, `dense`
too.

Deviations:

- Activity is that of the last training batch instead of one drawn for the purpose.
- New weights are uniform in +-1 / sqrt(fan-in) with a neuron's own fan-in, as torch's layers begin,
  whatever the layer began with.
- Layers whose readers are not evident (`sparse_core.weights.activity`) are left alone, and so are
  ablated neurons and output layers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core.config import SparseConfig
from sparse_core.streams import stream
from sparse_core.weights.activity import Activity
from sparse_core.weights.optimizer_state import restart_state
from sparse_core.weights.tensor import SparseTensor


@dataclass(frozen=True)
class Matrix:
    """The weight of a linear or convolutional layer as `(rows, cols)`, dense or sparse."""

    layer: nn.Module
    tensor: SparseTensor | None

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter that trains."""
        return self.layer.get_parameter("weight") if self.tensor is None else self.tensor.weight

    @property
    def active(self) -> Tensor:
        """`(rows, cols)` bool."""
        if self.tensor is not None:
            return self.tensor.active()
        return torch.ones_like(self.parameter, dtype=torch.bool).flatten(1)

    def set(self, where: Tensor, values: Tensor) -> Tensor:
        """Set active weights; return where these are in the parameter, bool in its layout.

        Args:
            where: `(rows, cols)` bool.
            values: `(rows, cols)`.
        """
        where = where & self.active
        if self.tensor is None or self.tensor.latent:
            shaped = where.reshape(self.parameter.shape)
            new = values.reshape(self.parameter.shape).to(self.parameter.dtype)
            self.parameter.copy_(torch.where(shaped, new, self.parameter))
            return shaped
        old = self.tensor.values()
        self.tensor.write(torch.where(where, values.to(old.dtype), old))
        return self.tensor.stored(where.to(old.dtype)) != 0


@torch.no_grad()
def reset_dormant(
    root: nn.Module,
    tensors: Sequence[SparseTensor],
    optimizers: Sequence[Optimizer],
    activity: Activity,
    *,
    threshold: float,
    seed: int,
    step: int,
) -> dict[str, int]:
    """Let dormant neurons start anew.

    Args:
        root: The module that is watched.
        tensors: Its sparse weights.
        optimizers: Those that train it.
        activity: What was seen in the last forward pass.
        threshold: Neurons with at most this score are dormant.
        seed: Seeds the new weights.
        step: Optimizer steps done, which names the draw.

    Returns:
        Layer -> neurons that start anew, of the layers whose neurons can.
    """
    sparse = {tensor.layer: tensor for tensor in tensors if tensor.parameter == "weight"}
    names = {module: name for name, module in root.named_modules()}
    chosen: list[tuple[nn.Module, Tensor]] = []
    for layer in activity.layers:
        dormant = activity.dormant(layer, threshold)
        matrix = Matrix(layer, sparse.get(layer))
        grouped = any(getattr(m, "groups", 1) != 1 for m in (layer, *activity.readers(layer)))
        if dormant is None or not activity.readers(layer) or grouped:
            continue
        if matrix.parameter.requires_grad:
            chosen.append((layer, dormant & matrix.active.any(1)))
    for layer, dormant in chosen:
        if bool(dormant.any()):
            matrix = Matrix(layer, sparse.get(layer))
            _draw_incoming(matrix, dormant, optimizers, stream(seed, "reset", step, names[layer]))
    for layer, dormant in chosen:
        for reader in activity.readers(layer) if bool(dormant.any()) else []:
            matrix = Matrix(reader, sparse.get(reader))
            _clear_outgoing(matrix, dormant, optimizers)
    return {names[layer]: int(dormant.sum()) for layer, dormant in chosen}


def _draw_incoming(
    matrix: Matrix, dormant: Tensor, optimizers: Sequence[Optimizer], generator: torch.Generator
) -> None:
    active = matrix.active
    draws = 2 * torch.rand(active.shape, generator=generator, dtype=torch.float64) - 1
    bounds = active.sum(1, keepdim=True).clamp(min=1).double().rsqrt()
    where = dormant.unsqueeze(1).expand_as(active)
    moved = matrix.set(where, draws.to(active.device) * bounds)
    bias = matrix.layer.bias
    if isinstance(bias, nn.Parameter):
        bias[dormant] = 0
    for optimizer in optimizers:
        restart_state(optimizer, matrix.parameter, moved)
        if isinstance(bias, nn.Parameter):
            restart_state(optimizer, bias, dormant)


def _clear_outgoing(matrix: Matrix, dormant: Tensor, optimizers: Sequence[Optimizer]) -> None:
    active = matrix.active
    each = math.ceil(active.shape[1] / len(dormant))
    where = dormant.repeat_interleave(each).unsqueeze(0).expand_as(active)
    moved = matrix.set(where, torch.zeros(active.shape, device=active.device))
    for optimizer in optimizers:
        restart_state(optimizer, matrix.parameter, moved)


class Neurons:
    """Watches neurons for whoever asks, and lets dormant ones start anew when it is time.

    Args:
        root: The module.
        every: Optimizer steps between two resets; None: none are made.
        threshold: Neurons with at most this score are dormant.
        seed: Seeds new weights.
        watching: Whether updates of the topology ask for activity.

    Attributes:
        activity: What was seen; None: nobody asks.
        resets: How often it was time for a reset, since this object was made.
        last: Layer -> neurons that started anew at the last reset.
    """

    def __init__(
        self, root: nn.Module, every: int | None, threshold: float, seed: int, watching: bool
    ) -> None:
        self.every = every
        self.activity = None if every is None and not watching else Activity(root)
        self._root = root
        self._threshold = threshold
        self._seed = seed
        self._watching = watching
        self._warned = False
        self.resets = 0
        self.last: dict[str, int] = {}

    @classmethod
    def of(cls, root: nn.Module, config: SparseConfig, watching: bool) -> Neurons:
        """Read a configuration."""
        every, threshold = config.reset_dormant_every, config.dormant_threshold
        return cls(root, every, threshold, config.seed, watching)

    def arm(self, step: int, *, due: bool) -> None:
        """Watch the forward pass of a coming step if it will be asked for.

        Args:
            step: Its number.
            due: Whether the topology is updated after it.
        """
        if self.activity is not None:
            self.activity.watch((due and self._watching) or self.due(step))

    def leave(self) -> None:
        """Watch no longer."""
        if self.activity is not None:
            self.activity.watch(False)

    def reset(
        self,
        tensors: Sequence[SparseTensor],
        optimizers: Sequence[Optimizer],
        step: int,
        ranks: object | None,
    ) -> None:
        """Let dormant neurons start anew if it is time.

        Raises:
            RuntimeError: If several processes train the network together.
        """
        if self.activity is None or not self.due(step):
            return
        if ranks is not None:
            raise RuntimeError(
                f"reset_dormant_every={self.every}: neurons are dormant on one process and not on "
                "another; train in one process, or leave it out"
            )
        self.last = reset_dormant(
            self._root,
            tensors,
            optimizers,
            self.activity,
            threshold=self._threshold,
            seed=self._seed,
            step=step,
        )
        self.resets += 1
        if not self.last and not self._warned:
            self._warned = True
            warnings.warn(
                f"reset_dormant_every={self.every}: no layer was seen whose neurons go through an "
                "activation module to other layers, so no neuron can start anew",
                stacklevel=2,
            )

    def due(self, step: int) -> bool:
        """Whether dormant neurons start anew after a step."""
        return self.every is not None and step % self.every == 0
