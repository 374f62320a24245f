"""Top-KAST: the largest weights are used, somewhat more of them are trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_core.updaters.base import Updater
from sparse_core.updaters.ranked import available_cells
from sparse_core.updaters.scene import Moment, Scene, checked
from sparse_core.updaters.scores import magnitude
from sparse_core.weights.delta import Delta
from sparse_core.weights.masked import MaskedTensor
from sparse_core.weights.tensor import SparseTensor


class TopKAST(Updater):
    """Top-K always sparse training (Jayakumar et al. 2020, section 2).

    Forward uses A, the largest weights of each layer; the gradient reaches B, a larger set that
    contains it. Weights outside B keep their values and may enter again when others shrink. The
    exploration loss (section 2.2) is added as its gradient: `penalty` w on A, `penalty` w /
    density on B less A.
    """

    penalises = True

    def start(self, tensor: SparseTensor, index: int = 0) -> None:
        """Choose A and B for the first time."""
        assert isinstance(tensor, MaskedTensor)
        tensor.mask.copy_(self._largest(tensor).reshape(tensor.mask.shape))
        tensor.set_companion("backward", torch.ones_like(tensor.mask))
        self._widen(tensor)

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the change of A; B follows it."""
        proposed = []
        for tensor in tensors:
            scene = Scene(tensor, moment, tensor.active())
            checked(magnitude(scene), "drop score", scene)
            proposed.append(Delta.between(scene.active, self._largest(tensor)))
        return proposed

    def after_update(self, tensors: Sequence[SparseTensor]) -> None:
        """Let B follow A."""
        for tensor in tensors:
            self._widen(tensor)

    def before_step(self, tensors: Sequence[SparseTensor]) -> None:
        """Add the gradient of the exploration loss."""
        for tensor in tensors:
            assert isinstance(tensor, MaskedTensor)
            backward = tensor.companion("backward")
            if tensor.weight.grad is None or backward is None or not self.config.penalty:
                continue
            density = tensor.budget / tensor.weight.numel()
            strength = tensor.mask + (backward - tensor.mask) / density
            tensor.weight.grad.add_(strength * tensor.weight.detach(), alpha=self.config.penalty)

    def _widen(self, tensor: SparseTensor) -> None:
        total = tensor.weight.numel()
        sparsity = self.config.backward_sparsity
        wide = (total + tensor.budget) // 2 if sparsity is None else round((1 - sparsity) * total)
        backward = tensor.companion("backward")
        assert backward is not None
        structure, shape = tensor.structure, (tensor.rows, tensor.cols)
        capacity = structure.capacity(max(wide, tensor.budget), *shape, tensor.open_lanes())
        forward, cells = structure.any_in_cell(tensor.active()), _cells(tensor)
        chosen = structure.refill(forward, cells, cells, capacity, structure.prices(*shape))
        backward.copy_(structure.expand(chosen, *shape).reshape(backward.shape))

    def _largest(self, tensor: SparseTensor) -> Tensor:
        shape = (tensor.rows, tensor.cols)
        live = tensor.open_lanes()
        return tensor.structure.highest(_cells(tensor), tensor.budget, *shape, live)


def _cells(tensor: SparseTensor) -> Tensor:
    return available_cells(tensor, tensor.values().abs())
