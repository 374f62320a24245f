"""LayerNorm over the features of each sample, forward and backward, on tiles.

It is that of Ba et al. (2016):

    y = w (x - mean) / sqrt(var + eps) + b
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from sparse_core.kernels import isa
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.simd import at
from sparse_core.kernels.tiles import tile_sum
from sparse_core.layers.passing import watched
from sparse_core.step.layers import CannotCompile, Learned, check_parameter
from sparse_core.step.parts import Part
from sparse_core.step.shape import Array, Shape, zeros
from sparse_core.step.tape import Tape


class Scale(Learned):
    """What a LayerNorm learns: a factor and an offset for each feature.

    Args:
        module: An `nn.LayerNorm`.
        name: Its name, for messages.
        features: What it normalises.

    Raises:
        CannotCompile: If it normalises something else.
    """

    def __init__(self, module: nn.LayerNorm, name: str, features: int) -> None:
        self.module, self.name, self._features = module, name, features
        if tuple(module.normalized_shape) != (features,):
            raise CannotCompile(f"{name} normalises {tuple(module.normalized_shape)}")
        self.of_weight, self.of_bias = zeros(features), zeros(features)
        self.bind()

    def bind(self) -> None:
        """Read the module anew."""
        module, name = self.module, self.name
        if type(module) is not nn.LayerNorm:
            raise CannotCompile(f"{name} is a {type(module).__name__}")
        if watched(module):
            raise CannotCompile(f"{name} has hooks")
        held = module._parameters
        weight, bias = held["weight"], held["bias"]
        self.parameters = tuple(p for p in (weight, bias) if p is not None)
        for parameter in self.parameters:
            check_parameter(parameter, name)
        self._addresses = tuple(p.data_ptr() for p in self.parameters)
        self.weight = _numbers(weight, np.ones(self._features, np.float32))
        self.bias = _numbers(bias, np.zeros(self._features, np.float32))

    def holds(self) -> bool:
        """Whether the module is still as it was when `bind` read it."""
        module = self.module
        if type(module) is not nn.LayerNorm or watched(module):
            return False
        now = tuple(p for p in module._parameters.values() if p is not None)
        return len(now) == len(self.parameters) and all(
            parameter is known and known.data_ptr() == address
            for parameter, known, address in zip(now, self.parameters, self._addresses, strict=True)
        )

    def gradients(self) -> list[tuple[nn.Parameter, Array]]:
        """List the parameters with the room for their gradients."""
        places = {id(self.module.weight): self.of_weight, id(self.module.bias): self.of_bias}
        return [(parameter, places[id(parameter)]) for parameter in self.parameters]


class Norm(Part):
    """A LayerNorm.

    Args:
        scale: What it learns.
        epsilon: What is added to the variance.
        shape: Of the batch.
        features: How many there are.
    """

    def __init__(self, scale: Scale, epsilon: float, shape: Shape, features: int) -> None:
        self._scale, self._epsilon, self.shape = scale, np.float32(epsilon), shape
        self.out, self._normal = shape.forward(features), shape.forward(features)
        self._spread = zeros(shape.tiles, shape.tile)
        self.signal = shape.backward(features)
        self._scratch = zeros(2, shape.tile)
        self._kernels = norm_kernels(shape.tile)

    def learned(self) -> list[Learned]:
        """Factors and offsets."""
        return [self._scale]

    def forward(self, tape: Tape, x: Array) -> Array:
        """Map `(tiles, features, tile)` to the same."""
        scale = self._scale
        tape.call(
            self._kernels[0],
            x, scale.weight, scale.bias, self._epsilon, self._normal, self._spread, self.out,
            self._scratch,
        )  # fmt: skip
        return self.out

    def backward(self, tape: Tape, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Write gradients of factors and offsets if `train`; return that of the input if wanted."""
        scale = self._scale
        normal = self._normal[: len(dy)]
        if train:
            tape.call(self._kernels[2], dy, normal, scale.of_weight, scale.of_bias, self._scratch)
        if first is None:
            return None
        tape.call(
            self._kernels[1], dy, scale.weight, normal, self._spread, self.signal, self._scratch
        )
        return self.signal


def _numbers(parameter: Tensor | None, otherwise: Array) -> Array:
    return otherwise if parameter is None else parameter.detach().numpy()


@once
def norm_kernels(tile: int) -> tuple[Any, Any, Any]:
    """Return the kernels of a LayerNorm.

    Args:
        tile: Samples of a tile.

    Returns:
        Functions of (x, weight, bias, epsilon, normal, spread, out, scratch), where `normal` is x
        normalised and `spread` (tiles, tile) one over its deviation; of (dy, weight, normal,
        spread, dx, scratch); and of (dy, normal, dweight, dbias, scratch). `scratch` is (2, tile).
    """
    lanes = isa.host().vector(tile)

    @kernel(
        "void(float32[:, :, ::1], float32[::1], float32[::1], float32, float32[:, :, ::1], "
        "float32[:, ::1], float32[:, :, ::1], float32[:, ::1])"
    )
    def forward(x, weight, bias, epsilon, normal, spread, out, scratch):
        tiles, features, _ = x.shape
        mean, square = scratch[0], scratch[1]
        part = np.float32(1.0 / features)
        for t in range(tiles):
            for s in range(tile):
                mean[s] = 0
                square[s] = 0
            for j in range(features):
                for s in range(tile):
                    mean[s] += x[t, j, s]
            for s in range(tile):
                mean[s] *= part
            for j in range(features):
                for s in range(tile):
                    off = x[t, j, s] - mean[s]
                    square[s] += off * off
            for s in range(tile):
                spread[t, s] = np.float32(1) / np.sqrt(square[s] * part + epsilon)
            for j in range(features):
                w, b = weight[j], bias[j]
                for s in range(tile):
                    scaled = (x[t, j, s] - mean[s]) * spread[t, s]
                    normal[t, j, s] = scaled
                    out[t, j, s] = scaled * w + b

    @kernel(
        "void(float32[:, :, ::1], float32[::1], float32[:, :, ::1], float32[:, ::1], "
        "float32[:, :, ::1], float32[:, ::1])"
    )
    def backward(dy, weight, normal, spread, dx, scratch):
        tiles, features, _ = dy.shape
        mean, along = scratch[0], scratch[1]
        part = np.float32(1.0 / features)
        for t in range(tiles):
            for s in range(tile):
                mean[s] = 0
                along[s] = 0
            for j in range(features):
                w = weight[j]
                for s in range(tile):
                    g = dy[t, j, s] * w
                    mean[s] += g
                    along[s] += g * normal[t, j, s]
            for s in range(tile):
                mean[s] *= part
                along[s] *= part
            for j in range(features):
                w = weight[j]
                for s in range(tile):
                    g = dy[t, j, s] * w - mean[s] - normal[t, j, s] * along[s]
                    dx[t, j, s] = g * spread[t, s]

    @kernel(
        "void(float32[:, :, ::1], float32[:, :, ::1], float32[::1], float32[::1], float32[:, ::1])"
    )
    def of_scale(dy, normal, dweight, dbias, scratch):
        tiles, features, _ = dy.shape
        for j in range(features):
            for s in range(tile):
                scratch[0, s] = 0
                scratch[1, s] = 0
            for t in range(tiles):
                for s in range(tile):
                    scratch[0, s] += dy[t, j, s] * normal[t, j, s]
                    scratch[1, s] += dy[t, j, s]
            dweight[j] = tile_sum(tile, lanes, at(scratch, 0))
            dbias[j] = tile_sum(tile, lanes, at(scratch, tile))

    return forward, backward, of_scale
