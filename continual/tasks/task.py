"""What belongs to one task alone, and where in the network it lies.

Sparse weights lie in one tensor that all tasks share, told apart by masks; where a layer is
condensed, each task has values and indices of its own. All else is a task's own as well: biases,
the head, normalisation layers with their running statistics, layers that stay dense. Where such a
tensor lies in the network is a `TensorPlace`; a `TaskState` holds one task's tensors for all of
them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from sparse_core.bits import Masks, key_of
from sparse_core.budgets.selection import Selected
from sparse_core.checks import InputError
from sparse_core.counts import LayerCount
from sparse_core.engine import Engine
from sparse_core.kernels.format import Pattern
from sparse_core.layers.masked import Masked
from sparse_core.layers.sharing import Lent
from sparse_core.layers.state import Condensed
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.tensor import SparseTensor

NO_TASK = -1
"""Index that stands for no task."""

LAST_LABEL = torch.iinfo(torch.int64).max
"""The largest label that samples can carry."""


def label_of(label: SupportsIndex) -> int:
    """Return a task's label as Python's integer, to the last digit.

    Raises:
        ValueError: If it is none.
    """
    try:
        number = operator.index(label)
    except TypeError:
        raise InputError(f"task label {label!r}: must be an integer") from None
    if number < 0:
        raise InputError(f"task label {number}: must not be negative")
    if number > LAST_LABEL:
        raise InputError(f"task label {number}: must be below 2^63, as labels of samples are")
    return number


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies in the network of which each task has its own.

    Attributes:
        name: Its full name in the network.
        module: The module that holds it.
        key: Its name there.
        trained: Whether it is a parameter; else it is a buffer.
        frozen: Whether it is a parameter that the caller does not let train.
    """

    name: str
    module: nn.Module
    key: str
    trained: bool
    frozen: bool

    @property
    def tensor(self) -> Tensor:
        """What lies there now."""
        kind = self.module._parameters if self.trained else self.module._buffers
        tensor = kind[self.key]
        assert tensor is not None
        return tensor

    def like(self, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor that a task can have there."""
        copy = tensor.detach().clone()
        return nn.Parameter(copy, requires_grad=not self.frozen) if self.trained else copy

    def bind(self, tensor: Tensor) -> None:
        """Put a task's tensor there."""
        if self.trained:
            assert isinstance(tensor, nn.Parameter)
            self.module._parameters[self.key] = tensor
        else:
            self.module._buffers[self.key] = tensor


def head_of(layers: Sequence[Selected] | Sequence[LayerCount]) -> str:
    """Return the weight of the layer that makes the logits: the last output, else the last."""
    outputs = [layer.name for layer in layers if layer.role == "output"]
    return (outputs or [layers[-1].name])[-1]


def check_apart(root: nn.Module) -> None:
    """Check that each tensor of a network has one place.

    Raises:
        ValueError: If two names stand for one tensor.
    """
    seen: dict[int, str] = {}
    for prefix, module in root.named_modules():
        for key, tensor in {**module._parameters, **module._buffers}.items():
            name = f"{prefix}.{key}" if prefix else key
            if tensor is not None and seen.setdefault(id(tensor), name) != name:
                raise InputError(
                    f"{seen[id(tensor)]!r} and {name!r} are one tensor: tasks need them apart"
                )


def own_places(root: nn.Module, engine: Engine, hard: bool) -> list[TensorPlace]:
    """List the places of all tensors of which each task has its own.

    Args:
        root: The network.
        engine: Its engine.
        hard: Whether tasks are isolated; otherwise only the head is a task's own.
    """
    weight = head_of(engine.layers())
    head = weight.rpartition(".")[0]
    shared = {tensor.name for tensor in engine.tensors if tensor.name != weight}
    places = []
    for prefix, module in root.named_modules():
        held = {True: module._parameters, False: module._buffers}
        for trained, tensors in held.items():
            for key, tensor in tensors.items():
                name = f"{prefix}.{key}" if prefix else key
                if tensor is None or (not trained and _is_topology(module, key)):
                    continue
                if name not in shared and (hard or prefix == head):
                    frozen = trained and not tensor.requires_grad
                    places.append(TensorPlace(name, module, key, trained, frozen))
    return places


def _is_topology(module: nn.Module, key: str) -> bool:
    """Whether a buffer belongs to the engine: masks and what the growth rule remembers."""
    if isinstance(module, Condensed):
        return key not in ("columns", "lengths")
    return isinstance(module, Masked) or key == "sparse_clock"


class TaskState(nn.Module):
    """One task's own tensors and, once another task is in training, its masks.

    What is read of an finished task is a copy of its parameters, for an optimizer may still move
    these: it may keep a history, or averages.

    Attributes:
        index: `() int64`, how many tasks began before it.
        own: Its tensors, by place.
        kept: What its parameters were when it finished; empty unless it is isolated.
        masks: Its masks, by weight; empty while it is in training.
        neurons: The neurons that it reserved, `(rows,)`, by weight; empty while it is in training.
        joined: Its condensed weights with what it reads beside them, once derived, by weight.
    """

    index: Tensor

    def __init__(self, index: int, tensors: Mapping[TensorPlace, Tensor]) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(index))
        self.own = nn.Module()
        self.kept = nn.Module()
        self.masks = Masks()
        self.neurons = Masks()
        self.joined: dict[str, Lent] = {}
        self._patterns: dict[str, Pattern] = {}
        for place, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self.own.register_parameter(key_of(place.name), tensor)
            else:
                self.own.register_buffer(key_of(place.name), tensor)

    def tensor(self, place: TensorPlace) -> Tensor:
        """Return its own tensor for a place."""
        return self.named(place.name)

    def named(self, name: str) -> Tensor:
        """Return its own tensor for the place of a name."""
        tensor = getattr(self.own, key_of(name))
        assert isinstance(tensor, Tensor)
        return tensor

    def value(self, name: str) -> Tensor:
        """Return the value of its tensor of this name: the one kept when it finished, if it has."""
        kept = self.kept._buffers.get(key_of(name))
        return self.named(name).detach() if kept is None else kept

    def bind(self, places: Sequence[TensorPlace]) -> None:
        """Put its tensors into the network."""
        for place in places:
            place.bind(self.tensor(place))

    def collect(self, places: Sequence[TensorPlace]) -> None:
        """Take over buffers that were replaced in the network (a move to another device does)."""
        for place in places:
            if not place.trained:
                self.own.register_buffer(key_of(place.name), place.tensor)

    def leave_copies(self, places: Sequence[TensorPlace]) -> None:
        """Leave the network copies of its buffers, which running statistics may go on changing."""
        for place in places:
            if not place.trained:
                place.bind(self.tensor(place).clone())

    def reopen(self, places: Sequence[TensorPlace]) -> None:
        """Undo what its end did, before a checkpoint is loaded into its tensors."""
        self.masks.clear()
        self.neurons.clear()
        self.kept._buffers.clear()
        self.joined, self._patterns = {}, {}
        for place in places:
            if place.trained:
                self.tensor(place).requires_grad_(not place.frozen)

    def freeze(self) -> None:
        """Train its tensors no more, and keep what they are."""
        for key, parameter in self.own.named_parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
            self.kept.register_buffer(key, parameter.detach().clone(), persistent=False)

    @torch.no_grad()
    def restore(self) -> None:
        """Write what is kept back into its parameters, before they are saved."""
        for key, value in self.kept.named_buffers():
            self.own.get_parameter(key).copy_(value)

    @property
    def stored(self) -> bool:
        """Whether its masks are stored here, and not in the network."""
        return not self.masks.empty

    def make_room(
        self, tensors: Iterable[SparseTensor], state_dict: Mapping[str, Tensor], stem: str
    ) -> None:
        """Make room for the masks and neurons that a checkpoint has of a task.

        Args:
            tensors: The weights of which a task has masks.
            state_dict: The checkpoint.
            stem: What names of the task begin with there.
        """
        for tensor in tensors:
            if f"{stem}masks.{key_of(tensor.name)}" in state_dict:
                self.masks.make_room(tensor.name, tensor.numel)
            if f"{stem}neurons.{key_of(tensor.name)}" in state_dict:
                self.neurons.make_room(tensor.name, tensor.rows)

    # Condensed weights ----------------------------------------------------------------------------

    def pattern(self, tensor: CondensedTensor) -> Pattern:
        """Return where its values of a condensed weight lie; for a finished task."""
        if tensor.name not in self._patterns:
            columns, lengths = (
                self.named(f"{tensor.condensed_stem}{what}").numpy()
                for what in ("columns", "lengths")
            )
            self._patterns[tensor.name] = Pattern.from_lengths(
                columns, lengths, tensor.cols, tensor.rows, tensor.layer.group
            )
        return self._patterns[tensor.name]

    def weight(self, tensor: CondensedTensor) -> Tensor:
        """Return its `(rows, cols)` weights of a condensed layer, zero where inactive."""
        values = self.value(f"{tensor.condensed_stem}values")
        return torch.from_numpy(self.pattern(tensor).expand(values.numpy()))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"joined": {}, "_patterns": {}}
