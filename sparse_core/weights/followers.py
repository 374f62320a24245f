"""Target networks: copies of a network whose topology follows the online one.

    Follower   the copy has the online topology at every moment
    Lagging    the copy stands still between two updates of its own, Polyak or hard, and takes the
               online masks m with each: t <- m * ((1 - tau) t + tau o)

A lagging copy is not told of its own updates: whoever makes them (Stable-Baselines3, a user) just
writes its parameters. So it looks whether they have changed, before the online weights change
again, before it is used, and before it is saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparse_core.budgets.selection import Selected, select
from sparse_core.checks import InputError
from sparse_core.layers.chaining import chain
from sparse_core.layers.companions import MEMORIES
from sparse_core.layers.fused import forbid_fused_encoders
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.conversion import condensed_from, masked_from
from sparse_core.weights.delta import Delta
from sparse_core.weights.masked import MaskedTensor
from sparse_core.weights.tensor import SparseTensor


class Follower:
    """A copy that has the online topology at every moment.

    Args:
        tensors: The online weights.
        copies: Those that follow, by name.
    """

    def __init__(self, tensors: Sequence[SparseTensor], copies: Mapping[str, SparseTensor]) -> None:
        self.copies = dict(copies)
        self.online = {tensor.name: tensor for tensor in tensors if tensor.name in copies}

    def catch_up(self) -> None:
        """Take the online masks where this is due, before the online weights change again."""

    def apply(self, name: str, delta: Delta) -> None:
        """Apply a Delta that was applied to the online weight of that name."""
        if name in self.copies:
            self.copies[name].follow(self.online[name], delta)

    def use_masks(self, tensors: Sequence[SparseTensor]) -> None:
        """Make condensed copies masked ones; they caught up before the online ones became so.

        Args:
            tensors: The online weights, which are others now.
        """
        self.online = {tensor.name: tensor for tensor in tensors if tensor.name in self.copies}
        self.copies = {name: masked_from(copy) for name, copy in self.copies.items()}
        self.refresh()

    def refresh(self) -> None:
        """Derive what depends on the topology, after a load."""
        for copy in self.copies.values():
            copy.refresh()


class Followers(list[Follower]):
    """All copies that follow one network."""

    def catch_up(self) -> None:
        """Take the online masks where this is due, before the online weights change again."""
        for follower in self:
            follower.catch_up()

    def apply(self, name: str, delta: Delta) -> None:
        """Apply a Delta that was applied to the online weight of that name."""
        for follower in self:
            follower.apply(name, delta)

    def use_masks(self, tensors: Sequence[SparseTensor]) -> None:
        """Make condensed copies masked ones, as the online weights have become."""
        for follower in self:
            follower.use_masks(tensors)

    def refresh(self) -> None:
        """Derive what depends on the topology, after a load."""
        for follower in self:
            follower.refresh()

    def enforce(self) -> None:
        """Zero the inactive weights."""
        for follower in self:
            for copy in follower.copies.values():
                copy.enforce()


class Lagging(Follower):
    """A copy that stands still between its own updates, and takes the online masks with each.

    Args:
        tensors: The online weights.
        copies: Those that follow, by name.
        target: The module that they belong to.
    """

    def __init__(
        self,
        tensors: Sequence[SparseTensor],
        copies: Mapping[str, SparseTensor],
        target: nn.Module,
    ) -> None:
        super().__init__(tensors, copies)
        self._before: dict[str, Tensor] = {}
        target.register_forward_pre_hook(self._before_use)
        target.register_state_dict_pre_hook(self._before_save)  # type: ignore[no-untyped-call]
        target.register_load_state_dict_post_hook(self._after_load)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def catch_up(self) -> None:
        """Take the online masks where the copy was updated since its topology began to differ."""
        for name, before in list(self._before.items()):
            copy = self.copies[name]
            if not torch.equal(copy.weight, before):
                copy.take_over(self.online[name], before)
                del self._before[name]

    def apply(self, name: str, delta: Delta) -> None:
        """Remember the weights as they are with the old topology."""
        if name in self.copies:
            self._before.setdefault(name, self.copies[name].weight.detach().clone())

    def refresh(self) -> None:
        """Find out where the topologies differ, after a load."""
        super().refresh()
        self._before = {
            name: copy.weight.detach().clone()
            for name, copy in self.copies.items()
            if not torch.equal(copy.active(), self.online[name].active())
        }

    def _before_use(self, module: nn.Module, args: object) -> None:
        self.catch_up()

    def _before_save(self, module: nn.Module, prefix: str, keep_vars: bool) -> None:
        self.catch_up()

    def _after_load(self, module: Any, incompatible_keys: object) -> None:
        self.refresh()


def hooks_of(root: nn.Module) -> list[tuple[dict[int, Any], int, object]]:
    """List the hooks on loads, saves and calls of a module and of all modules in it.

    Returns:
        The hooks of a kind, the key of one of them there, and the object whose method it is.
    """
    found: list[tuple[dict[int, Any], int, object]] = []
    for module in root.modules():
        for hooks in (
            module._load_state_dict_pre_hooks,
            module._load_state_dict_post_hooks,
            module._state_dict_pre_hooks,
            module._forward_pre_hooks,
        ):
            for key, hook in hooks.items():
                inner = getattr(hook, "hook", hook)  # torch wraps those that run before a load
                found.append((hooks, key, getattr(inner, "__self__", None)))
    return found


def follower_of(
    tensors: Sequence[SparseTensor], target: nn.Module, *, lagging: bool, partial: bool
) -> Follower:
    """Let a target network follow; see `Engine.follow`.

    Raises:
        ValueError: If it lacks a layer. Nothing is changed then.
    """
    copies = copy_topology(tensors, target, partial=partial)
    return Lagging(tensors, copies, target) if lagging else Follower(tensors, copies)


def copy_topology(
    tensors: Sequence[SparseTensor], target: nn.Module, *, partial: bool = False
) -> dict[str, SparseTensor]:
    """Give the layers of a target network the topology and the form of the online ones, in place.

    Args:
        tensors: The online weights.
        target: A network with the same layers, dense still.
        partial: Whether it may lack some of them.

    Returns:
        The target's weights by name.

    Raises:
        ValueError: If the target lacks a layer. Nothing is changed then.
    """
    there = {item.name: item for item in select(target, embeddings=True)}
    twins = {}
    for tensor in tensors:
        twin, shape = there.get(tensor.name), tensor.shape
        if twin is not None and twin.shape == shape:
            twins[tensor.name] = twin
        elif twin is not None or not partial:
            raise InputError(
                f"target has no layer like {tensor.name!r}: it cannot follow; needed is a "
                f"dense one of shape {shape}, there is {twin.shape if twin else 'none'}"
            )
    masked = {t.name: _masked_copy(t, twins[t.name]) for t in tensors if t.name in twins}
    copies = {t.name: _in_form_of(t, masked[t.name]) for t in tensors if t.name in twins}
    if any(copies[name] is not masked[name] for name in copies):
        chain(target)
    forbid_fused_encoders(target)
    for tensor in tensors:
        for what in (*MEMORIES, "backward"):
            own = tensor.companion(what)
            if own is not None and tensor.name in copies:
                copies[tensor.name].set_companion(what, own.clone())
    return copies


def _in_form_of(tensor: SparseTensor, twin: MaskedTensor) -> SparseTensor:
    condensed = isinstance(tensor, CondensedTensor)
    return condensed_from(twin, tensor.weight.numel()) if condensed else twin


def _masked_copy(tensor: SparseTensor, twin: Selected) -> MaskedTensor:
    twin.mask()
    copy = MaskedTensor(
        tensor.name, twin.layer, twin.parameter, tensor.role, tensor.structure, tensor.budget
    )
    copy.latent, copy.reader = tensor.latent, twin.reader
    copy.start(tensor.active())
    return copy
