"""What condensed layers share: their state, and the topology that it stands for.

    values    (capacity,)   the active weights, group after group; `sparse_core.kernels.format`
    columns   (slots,)      int32, the column of each weight (of each group of weights)
    lengths   (groups,)     int32, slots of each group; 0: ablated

Nothing changes its shape while the topology moves, so optimizers and checkpoints need no special
case. Where every entry of a state_dict has to be a float (Stable-Baselines3), columns and lengths
may be floats, in float32 exact for up to 2^24 columns; `floats` makes them so.

Where tasks share weights, `weight_protected` says which weights of the matrix are an earlier
task's, `weight_frozen` what they are worth. The forward pass reads those that the layer's own
topology includes or, if there is a `weight_lent`, those that it names; they get no gradient
(`sparse_core.layers.sharing`). What is read is `weight_frozen`, whatever the values hold, and
`weight_given` in the place of the biases of `weight_reserved`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from sparse_core.checks import InputError
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.gpu.index import DeviceIndex
from sparse_core.layers.companions import MEMORIES, declare, forget, key
from sparse_core.layers.copies import Copied, announce, release
from sparse_core.layers.kinds import own_class
from sparse_core.layers.sharing import Lent, Reused, Shared
from sparse_core.layers.tap import GradientTap
from sparse_core.layers.translation import integers, to_condensed

HALVES = (torch.float16, torch.bfloat16)


class Condensed(Copied):
    """A layer whose weight matrix is condensed.

    Attributes:
        values: The active weights, the layer's parameter.
        group: Consecutive rows that share their columns.
        weight_tap: The view of the dense gradient.
        weight_live: `(rows,)` bool, neurons that are not ablated; None: all are live.
        weight_protected: `(rows, cols)` bool, weights of earlier tasks; None if there are none.
        weight_frozen: `(rows, cols)`, those weights; None if they are never read.
        weight_lent: `(rows, cols)` bool, those that are read beside the layer's own; None: those
            that are among its own.
        weight_reserved: `(rows,)` bool, neurons of earlier tasks; None if there are none.
        weight_given: `(rows,)`, the biases of those neurons; None: the layer's own.
    """

    values: nn.Parameter
    columns: Tensor
    lengths: Tensor
    group: int
    weight_tap: GradientTap
    weight_live: Tensor | None
    weight_protected: Tensor | None
    weight_frozen: Tensor | None
    weight_lent: Tensor | None
    weight_reserved: Tensor | None
    weight_given: Tensor | None
    _pattern: Pattern | None
    _index: DeviceIndex | None
    _shared: Shared | None
    _link: object

    @property
    def dense_shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        raise NotImplementedError

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the dense weight, whose matrix this is."""
        return self.dense_shape

    def remember_pattern(self, pattern: Pattern, capacity: int) -> None:
        """Make the buffers of a topology for `capacity` values, and set it."""
        slots, groups = -(-capacity // pattern.group), pattern.lengths.size
        self.group = pattern.group
        device = self.values.device
        self.register_buffer("columns", torch.zeros(slots, dtype=torch.int32, device=device))
        self.register_buffer("lengths", torch.zeros(groups, dtype=torch.int32, device=device))
        declare(self, "weight", condensed=True)
        self.weight_tap = GradientTap()
        self._link = None
        release(self)
        self.set_pattern(pattern)

    def forget_pattern(self) -> None:
        """Drop the topology, the values and all companions."""
        for name in ("columns", "lengths"):
            del self._buffers[name]
        forget(self, "weight")
        del self._parameters["values"]
        for name in ("group", "weight_tap", "_pattern", "_index", "_shared", "_link"):
            del self.__dict__[name]
        release(self)

    @property
    def on_device(self) -> bool:
        """Whether its weights are on a GPU, so that its topology is looked at and changed there."""
        values = self._parameters["values"]
        return values is not None and not (values.is_cpu or values.is_meta)

    @property
    def index(self) -> DeviceIndex:
        """The topology, as kernels for GPUs take it.

        Raises:
            ValueError: If the layer is a copy that was averaged by hand.
        """
        if self._lineage is not None:
            self.check_average()
        if self._index is None:
            rows, columns = self.dense_shape
            of_matrix = columns, rows, self.group
            self._index = DeviceIndex.of(self.columns, self.lengths, *of_matrix)
        return self._index

    @property
    def pattern(self) -> Pattern:
        """The topology, as the kernels of the CPU take it; on a GPU a copy of it.

        Raises:
            ValueError: If the state is not a topology, or the layer a copy that was averaged
                by hand.
        """
        if self._lineage is not None:
            self.check_average()
        if self._pattern is None:
            rows, columns = self.dense_shape
            self._pattern = Pattern.from_lengths(
                integers(self.columns),
                integers(self.lengths),
                columns,
                rows,
                self.group,
            )
        return self._pattern

    def set_pattern(self, pattern: Pattern) -> None:
        """Set another topology of the same shape; the caller has to move the values.

        Raises:
            ValueError: If it does not fit into the layer's capacity.
        """
        if pattern.slots > self.columns.numel():
            raise InputError(f"pattern has {pattern.slots} slots, room is {self.columns.numel()}")
        columns, lengths = self._buffers["columns"], self._buffers["lengths"]
        assert columns is not None and lengths is not None
        if columns.is_cpu and lengths.is_cpu:
            written = columns.numpy()
            written[: pattern.slots], written[pattern.slots :] = pattern.columns, 0
            lengths.numpy()[:] = pattern.lengths
            increment_version((columns, lengths))
        else:
            columns.zero_()
            columns[: pattern.slots] = torch.from_numpy(pattern.columns.astype(np.int32))
            lengths.copy_(torch.from_numpy(pattern.lengths))
        # Attributes of a module take their time.
        vars(self).update(_pattern=pattern, _index=None, _shared=None)

    def set_slots(self, columns: Tensor, lengths: Tensor) -> None:
        """Set another topology of the same shape where the layer is; see `set_pattern`.

        Args:
            columns: `(slots,)` integers, ascending in each group.
            lengths: `(groups,)` integers, slots of each group.

        Raises:
            ValueError: If it does not fit into the layer's capacity.
        """
        if columns.numel() > self.columns.numel():
            room = self.columns.numel()
            raise InputError(f"topology has {columns.numel()} slots, room is {room}")
        self.columns.zero_()
        self.columns[: columns.numel()] = columns.to(self.columns.dtype)
        self.lengths.copy_(lengths)
        self._pattern = self._index = self._shared = None

    def derive(self) -> None:
        """Derive the pattern and the shared weights anew, after the state was written from outside.

        On the CPU the pattern is made at once: the state cannot be read while torch follows each
        operation.
        """
        self._pattern = self._index = self._shared = None
        if not self.on_device:
            _ = self.pattern

    @property
    def shared(self) -> Shared | None:
        """The weights of earlier tasks that it reads; None: none."""
        protected = self._buffers["weight_protected"]
        if self._shared is None and protected is not None:
            self._shared = self._derive_shared(protected)
        return self._shared

    def refuse_shared(self) -> None:
        """Raise an InputError if it reads weights of earlier tasks, which kernels for GPUs do not.

        Raises:
            InputError: In one line, with the ways out.
        """
        if self._buffers["weight_frozen"] is not None or self._buffers["weight_given"] is not None:
            raise InputError(
                f"{self}: tasks share its weights, which condensed layers do on the CPU only; use "
                '.cpu(), or backend="masked"'
            )

    def _derive_shared(self, protected: Tensor) -> Shared | None:
        if self.weight_frozen is None:
            return None
        weights, capacity = self.weight_frozen.numpy(), self.values.numel()
        if self.weight_lent is None:
            return Reused.among(self.pattern, protected.numpy(), weights, capacity)
        return Lent.beside(self.pattern, self.weight_lent.flatten(1).numpy(), weights, capacity)

    def forget_training(self) -> None:
        """Drop the companions that only training needs; see `MEMORIES`."""
        for name in MEMORIES:
            self._buffers[key("weight", name)] = None

    def floats(self) -> None:
        """Keep the integers of the state as floats from now on, the topology as it is."""
        for name, buffer in self._buffers.items():
            if name not in self._non_persistent_buffers_set and buffer is not None:
                self._buffers[name] = buffer.to(self.values.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Cast or move the layer; columns and lengths are never cast to half precision."""
        before = {name: self._buffers[name] for name in ("columns", "lengths")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, exact in before.items():
            cast = self._buffers[name]
            if exact is not None and cast is not None and cast.dtype in HALVES:
                self._buffers[name] = exact.to(cast.device)
        self._index = self._shared = None
        return self

    def mask(self) -> Tensor:
        """Return `(rows, cols)` bool, True = active."""
        if self.on_device:
            return self.index.matrix(torch.ones_like(self.values, dtype=torch.bool))
        return torch.from_numpy(self.pattern.to_mask())

    def dense_weight(self) -> Tensor:
        """Return the `(rows, cols)` weight matrix, zero where inactive, detached."""
        if self.on_device:
            return self.index.matrix(self.values.detach())
        return torch.from_numpy(self.pattern.expand(self.values.detach().numpy()))

    def _take_dense_form(self, latent: bool) -> None:
        weight = self.dense_weight().reshape(self.weight_shape)
        weight = nn.Parameter(weight, self.values.requires_grad)
        parameters = {
            "weight" if name == "values" else name: weight if name == "values" else parameter
            for name, parameter in self._parameters.items()
        }
        self.forget_pattern()
        self.__class__ = own_class(self)  # type: ignore[assignment]
        self._parameters.clear()
        self._parameters.update(parameters)

    def _placed(self) -> list[Tensor]:
        return [self.values]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pattern": None, "_index": None, "_shared": None, "_link": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if type(self.columns) is Tensor and self.columns.is_cpu:
            _ = self.pattern, self.shared

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        self.check_average()
        super()._save_to_state_dict(destination, prefix, keep_vars)

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
        announce(self, f"{prefix}weight", "weight")
        if self._lineage is not None:
            self._lineage.before, self._lineage.mixed = [], False
        try:
            if f"{prefix}weight" in state_dict:
                to_condensed(state_dict, prefix, self.pattern, self.values, self.weight_shape)
            for name in ("values", "columns", "lengths"):
                given, own = state_dict.get(prefix + name), getattr(self, name)
                if given is not None and given.shape != own.shape:
                    shapes = f"{tuple(given.shape)} there, {tuple(own.shape)} here"
                    raise ValueError(f"size mismatch for {name}: {shapes}")
            columns, lengths = (state_dict.get(prefix + name) for name in ("columns", "lengths"))
            if columns is not None and lengths is not None:
                height, width = self.dense_shape
                Pattern.from_lengths(
                    integers(columns), integers(lengths), width, height, self.group
                )
        except ValueError as error:
            error_msgs.append(f"{prefix.rstrip('.') or 'layer'}: {error}")
            return
        errors = len(error_msgs)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if len(error_msgs) == errors:
            self.derive()
