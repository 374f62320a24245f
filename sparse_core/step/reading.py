"""The weights that a layer's products read: its own, and beside them those of earlier tasks.

Where tasks share weights (`sparse_core.layers.sharing`), what is read lies in arrays of its own, in
which a layer's own weights and biases are put before each forward pass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.kernels.format import Pattern
from sparse_core.layers.sharing import Reused, Shared
from sparse_core.step.arrays import place_kernel
from sparse_core.step.shape import Array, zeros
from sparse_core.step.tape import Tape

Places = NDArray[np.int64]


class Reading:
    """What the products of a layer read, and which of it trains.

    Args:
        pattern: The layer's own pattern.
        values: Its values.
        bias: (out,), its biases.
        shared: Which of the weights are an earlier task's; None: none.
        given: `(out,)`, the biases of neurons of earlier tasks; None: there are none.
        reserved: `(out,)` bool, which these are.

    Attributes:
        pattern: The weights that are read.
        values: What they are worth.
        bias: (out,).
        trained: The weights that train, a part of the layer's own.
    """

    def __init__(
        self,
        pattern: Pattern,
        values: Array,
        bias: Array,
        shared: Shared | None = None,
        given: Tensor | None = None,
        reserved: Tensor | None = None,
    ) -> None:
        self.pattern, self.values, self.bias, self.trained = pattern, values, bias, pattern
        self._filled: list[tuple[Array, Places, Places, Array]] = []
        self._part: Array | None = None
        self._shared = shared
        if shared is not None:
            self.trained = shared.pattern
            self.pattern, read = shared.read(pattern, values)
            self.values = _aligned(read)
            source = shared.places if isinstance(shared, Reused) else shared.source
            self._filled.append((values, source, shared.places, self.values))
            self._part = zeros(shared.room) if isinstance(shared, Reused) else None
        if given is not None:
            assert reserved is not None
            own = np.flatnonzero(reserved.numpy() == 0)
            self.bias = _aligned(given.numpy())
            self._filled.append((bias, own, own, self.bias))

    def fill(self, tape: Tape) -> None:
        """Let a tape bring the layer's own numbers to where they are read."""
        for move in self._filled:
            tape.call(place_kernel(), *move)

    def room(self, of_values: Array) -> Array:
        """Return where the gradient of the weights that train may be written."""
        return of_values if self._part is None else self._part

    def spread(self, tape: Tape, of_values: Array) -> None:
        """Let a tape bring that gradient to its places among those of the layer's values."""
        if self._part is not None:
            assert isinstance(self._shared, Reused)
            shared = self._shared
            tape.call(place_kernel(), self._part, shared.source, shared.places, of_values)


def _aligned(array: Array) -> Array:
    copy = zeros(*array.shape)
    copy[:] = array
    return copy
