"""What condensed layers share: their state, and the topology that it stands for.

    values    (capacity,)   the active weights, group after group; `sparse_core.kernels.format`
    columns   (slots,)      int32, the column of each weight (of each group of weights)
    lengths   (groups,)     int32, slots of each group; 0: ablated

Nothing changes its shape while the topology moves, so optimizers and checkpoints need no special
case. Where every entry of a state_dict has to be a float (Stable-Baselines3), columns and lengths
may be floats, in float32 exact for up to 2^24 columns; `floats` makes them so.

Where tasks share weights, some of the values are copies of an earlier task's: `weight_protected`
says which weights of the matrix those are, `weight_frozen` what they are worth. They are read by
the forward pass and get no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_core.kernels.format import Pattern
from sparse_core.layers.tap import GradientTap

DERIVED = ("weight_live", "weight_protected", "weight_frozen")
"""Buffers that are not saved: whoever loads a layer knows what they follow from."""


@dataclass(frozen=True)
class Trained:
    """The values of a pattern that train, where others are an earlier task's.

    Attributes:
        pattern: The weights that train, a part of the layer's pattern.
        source: (n,) int64, places in the values of that part, unused ones left out.
        places: (n,) int64, where in the layer's values they lie.
        fixed: (capacity,) bool, values that do not train.
    """

    pattern: Pattern
    source: NDArray[np.int64]
    places: NDArray[np.int64]
    fixed: NDArray[np.bool_]

    @classmethod
    def beside(cls, protected: NDArray[np.bool_], pattern: Pattern, capacity: int) -> Trained:
        """Tell apart the weights of a pattern.

        Args:
            protected: (rows, cols) bool, weights that do not train.
            pattern: The layer's pattern.
            capacity: Length of its values.
        """
        own = Pattern.from_mask(pattern.to_mask() & ~protected, pattern.group)
        found = own.places_in(pattern)
        source = np.flatnonzero(found >= 0)
        fixed = np.zeros(capacity, np.bool_)
        fixed[: pattern.size] = True
        fixed[found[source]] = False
        return cls(own, source, found[source], fixed)

    def spread(self, gradient: NDArray[Any]) -> NDArray[Any]:
        """Bring the gradient of the part to its places: (capacity,), zeros elsewhere."""
        whole: NDArray[Any] = np.zeros(self.fixed.size, gradient.dtype)
        whole[self.places] = gradient[self.source]
        return whole


class Condensed(nn.Module):
    """A layer whose weight matrix is condensed.

    Attributes:
        values: The active weights, the layer's parameter.
        group: Consecutive rows that share their columns.
        weight_tap: The view of the dense gradient.
        weight_live: `(rows,)` bool, neurons that are not ablated; None: all are live.
        weight_protected: `(rows, cols)` bool, weights of earlier tasks; None if there are none.
        weight_frozen: `(rows, cols)`, those weights; None if they are never read.
    """

    values: nn.Parameter
    columns: Tensor
    lengths: Tensor
    group: int
    weight_tap: GradientTap
    weight_live: Tensor | None
    weight_protected: Tensor | None
    weight_frozen: Tensor | None
    _pattern: Pattern | None
    _trained: Trained | None

    @property
    def dense_shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        raise NotImplementedError

    def remember_pattern(self, pattern: Pattern, capacity: int) -> None:
        """Make room for the topology beside `capacity` values, and take it."""
        slots, groups = -(-capacity // pattern.group), pattern.lengths.size
        self.group = pattern.group
        self.register_buffer("columns", torch.zeros(slots, dtype=torch.int32))
        self.register_buffer("lengths", torch.zeros(groups, dtype=torch.int32))
        for name in DERIVED:
            self.register_buffer(name, None, persistent=False)
        self.weight_tap = GradientTap()
        self.set_pattern(pattern)

    def forget_pattern(self) -> None:
        """Drop the topology and the values, before becoming dense again."""
        for name in ("columns", "lengths", *DERIVED):
            del self._buffers[name]
            self._non_persistent_buffers_set.discard(name)
        del self._parameters["values"]
        for name in ("group", "weight_tap", "_pattern", "_trained"):
            del self.__dict__[name]

    @property
    def pattern(self) -> Pattern:
        """The topology, as the kernels take it.

        Raises:
            ValueError: If the state is not a topology.
        """
        if self._pattern is None:
            rows, columns = self.dense_shape
            self._pattern = Pattern.from_lengths(
                _integers(self.columns),
                _integers(self.lengths),
                columns,
                rows,
                self.group,
            )
        return self._pattern

    def set_pattern(self, pattern: Pattern) -> None:
        """Take another topology of the same shape; the values are the caller's business.

        Raises:
            ValueError: If it does not fit into the layer's capacity.
        """
        if pattern.slots > self.columns.numel():
            raise ValueError(f"pattern has {pattern.slots} slots, room is {self.columns.numel()}")
        self.columns.zero_()
        self.columns[: pattern.slots] = torch.from_numpy(pattern.columns.astype(np.int32))
        self.lengths.copy_(torch.from_numpy(pattern.lengths))
        self._pattern = pattern
        self._trained = None

    def forget_derived(self) -> None:
        """Derive the pattern, and which values train, anew: the state was written elsewhere."""
        self._pattern = None
        self._trained = None

    @property
    def trained(self) -> Trained | None:
        """Which of the values train; None: all."""
        if self.weight_protected is None or self.weight_frozen is None:
            return None
        if self._trained is None:
            self._trained = Trained.beside(
                self.weight_protected.numpy(), self.pattern, self.values.numel()
            )
        return self._trained

    def floats(self) -> None:
        """Keep the integers of the state as floats from now on, the topology as it is."""
        for name, buffer in self._buffers.items():
            if name not in self._non_persistent_buffers_set and buffer is not None:
                self._buffers[name] = buffer.to(self.values.dtype)

    def dense_weight(self) -> Tensor:
        """Return the `(rows, cols)` weight matrix, zero where inactive, detached."""
        return torch.from_numpy(self.pattern.expand(self.values.detach().numpy()))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pattern": None, "_trained": None}

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        columns, lengths = (state_dict.get(prefix + name) for name in ("columns", "lengths"))
        if columns is not None and lengths is not None:
            height, width = self.dense_shape
            try:
                Pattern.from_lengths(
                    _integers(columns), _integers(lengths), width, height, self.group
                )
            except ValueError as error:
                error_msgs.append(f"{prefix.rstrip('.') or 'layer'}: {error}")
                return
        self.forget_derived()
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _integers(tensor: Tensor) -> NDArray[Any]:
    """Read indices; from floats too, whose fractions do not count."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return np.floor(array).astype(np.int64) if tensor.is_floating_point() else array
