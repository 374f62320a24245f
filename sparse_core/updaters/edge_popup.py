"""Edge-popup: each weight has a score, and the weights of the highest scores make the network.

    network = w * mask,    mask = the budget's highest |s| of each layer, after every step
    dL/ds   = dL/dmask * sign(s) = dL/d(w * mask) * w * sign(s)       (straight through)

The scores are parameters of their own beside the weights, `weight_scores`, of the weight's shape.
An optimizer that is made before the network is sparse does not know them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparse_core.layers.companions import key
from sparse_core.streams import stream
from sparse_core.updaters.base import Updater
from sparse_core.updaters.ranked import available_cells
from sparse_core.updaters.scene import Moment, Scene, checked
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


class EdgePopup(Updater):
    """What is hidden in a randomly weighted neural network? (Ramanujan et al. 2020, section 3).

    The weights are signed constants, +-sqrt(2 / active fan-in), and are never trained; only scores
    are. Scores begin as in the published code, uniform in +-1 / sqrt(fan-in). Deviation: biases,
    where a layer has them, train.
    """

    fixed = True

    def start(self, tensor: SparseTensor, index: int = 0) -> None:
        """Draw the scores, and choose the first mask by them."""
        if tensor.companion("scores") is None:
            parameter = nn.Parameter(torch.empty_like(tensor.weight))
            tensor.layer.register_parameter(key(tensor.parameter, "scores"), parameter)
            if self.fixed:
                size = math.sqrt(2 * tensor.rows / max(1, tensor.budget))
                with torch.no_grad():
                    tensor.weight.copy_(tensor.weight.sign() * size)
        generator = stream(self.config.seed, "scores", index, tensor.name)
        draws = 2 * torch.rand(tensor.rows, tensor.cols, generator=generator) - 1
        scores = tensor.companion("scores")
        assert scores is not None
        with torch.no_grad():
            scores.copy_((draws / math.sqrt(tensor.cols)).reshape(scores.shape))
        if self.fixed:
            tensor.weight.requires_grad_(False)
        tensor.start(self._highest(tensor, _popularity(tensor)))

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta that leads to the highest scores."""
        deltas = []
        for tensor in tensors:
            scene = Scene(tensor, moment, tensor.active())
            scores = checked(_popularity(tensor), "score", scene)
            deltas.append(Delta.between(scene.active, self._highest(tensor, scores)))
        return deltas

    def _highest(self, tensor: SparseTensor, scores: Tensor) -> Tensor:
        cells, shape = available_cells(tensor, scores), (tensor.rows, tensor.cols)
        return tensor.structure.highest(cells, tensor.budget, *shape, tensor.open_lanes())


class WSN(EdgePopup):
    """Winning SubNetworks (Kang et al. 2022, section 3): weights and scores are trained together.

    A weight outside the mask keeps its value.
    """

    fixed = False


def _popularity(tensor: SparseTensor) -> Tensor:
    scores = tensor.companion("scores")
    assert scores is not None
    return scores.detach().abs().reshape(tensor.rows, tensor.cols)
