"""Policies that learn one task after another: masks on the trunk, heads per task.

    policy.begin_task(0)      # new masks in what is free of the trunk, fresh heads and biases
    model.learn(20_000)
    policy.end_task()         # from here on task 0 never changes, to the bit
    with policy.task(0):      # acts and is evaluated as task 0
        model.predict(observation)

A task's network is made of its masked weights of the trunk (all layers but the last of each
network), which are protected when it ends, and of tensors of its own: heads, all biases, layers
that stay dense, the log deviation of actions. With `isolation="none"` there is one trunk, biases
and dense layers included, that goes on training: only heads and the log deviation are apart.
Networks of the actor and of the critics are treated alike.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dstrl.policies.actor_critics import SparseSACPolicy, SparseTD3Policy
from dstrl.policies.actor_value import SparseActorCriticPolicy
from dstrl.policies.mixin import SparsePolicy
from dstrl.policies.q_network import SparseDQNPolicy
from dstrl.settings import Settings
from dstrl.tasks.rules import supported
from dstrl.tasks.stored import Slot, Stored, slots_of
from sparse_core.checks import InputError, whole
from sparse_core.clock import digits_of, number_of
from sparse_core.config import SparseConfig
from sparse_core.weights.initialisation import draw_mask
from sparse_core.weights.tensor import SparseTensor

PLACES = 8
"""Digits of the label of the task in training, see `sparse_core.clock`."""

HIGHEST = (1 << 62) - 1
"""The highest label."""

ROLLOUT = "collect_rollouts"
"""Stable-Baselines3's method that begins to learn: it acts, and never says so to the policy."""


class ContinualPolicy(SparsePolicy):
    """Mixin that lets a sparse policy learn tasks in sequence: put it before the policy's class.

    Layers are masked, whatever the backend asked for. Every task, the first too, draws masks and
    weights of the trunk anew, within what earlier ones left, with exactly the budget of each layer;
    heads and biases start from the values, and heads from the masks, that the policy was built
    with. The state of all optimizers starts anew as well. Stable-Baselines3's `save` and `load`
    keep the tasks.

    Args:
        sparse: As in `SparsePolicy`.
        isolation: `hard`: what a task has learnt stays as it is, to the bit. `none`: see above.
        share: Under hard isolation, whether a mask may include weights of earlier tasks (`reuse`),
            which are read and never written, or not (`none`).
    """

    sparse_task: Tensor

    def __init__(
        self,
        *args: Any,
        sparse: Settings | SparseConfig | Mapping[str, Any] | None = None,
        isolation: str = "hard",
        share: str = "none",
        **kwargs: Any,
    ) -> None:
        settings = supported(Settings.read(sparse), isolation, share)
        if isolation == "none" and share != "none":
            raise InputError(
                f"share={share!r}: plays no part under isolation='none'", field="share"
            )
        self.sparse_apart = ("output",) if isolation == "hard" and share == "none" else None
        super().__init__(*args, sparse=settings, **kwargs)
        assert isinstance(self, nn.Module)
        self.isolation = isolation
        self.share = share
        self._viewed: int | None = None
        for engine in self.sparse_engines.values():
            engine.many_tasks = True
        tensors = {
            f"{name}.{tensor.name}": tensor
            for name, engine in self.sparse_engines.items()
            for tensor in engine.tensors
        }
        self._trunk = {name: t for name, t in tensors.items() if t.role != "output"}
        for tensor in self._trunk.values():
            tensor.may_reuse = share == "reuse"
        self._slots = self._find_slots()
        heads = {name: t for name, t in tensors.items() if t.role == "output"}
        self._apart = tensors if self.hard else heads
        self.sparse_fresh = Stored(self._slots, heads)
        self.sparse_tasks = nn.ModuleDict()
        self.register_buffer("sparse_task", torch.zeros(PLACES))
        self.register_state_dict_pre_hook(_before_save)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_protect)  # type: ignore[no-untyped-call]

    # The life of a task ---------------------------------------------------------------------------

    def begin_task(self, label: int) -> None:
        """Begin a task.

        The algorithm has buffers too, and SAC an entropy coefficient:
        `dstrl.tasks.train.begin_task` resets those as well.

        Args:
            label: Names the task, an integer from 0 to 2^62 - 1.

        Raises:
            InputError: If the label was trained already, or a layer has too little room for the
                task. Nothing is changed then.
            RuntimeError: If another task is still in training, or looked at.
        """
        label = self.check_task(label)
        if self.training_task is not None:
            raise RuntimeError(f"task {self.training_task} is still in training: end it first")
        engines = self.sparse_engines.values()
        drawn = self._apart if self.sparse_tasks else None
        for engine in engines:
            names = [t.name for t in engine.tensors if drawn is None or t in drawn.values()]
            engine.redraw(label, names=names)
        self._refresh_heads()
        for optimizer in {engine.optimizer for engine in engines}:
            assert optimizer is not None
            optimizer.state.clear()
        self._start_targets()
        self._set_training_task(label)

    def check_task(self, label: int) -> int:
        """Return the label as a Python integer if the task can begin after the one in training.

        Nothing is changed, by a refusal either.

        Raises:
            InputError: As `begin_task`; or if this task is the one in training.
            RuntimeError: If a task is looked at.
        """
        label = whole("label", label, 0)
        if label > HIGHEST:
            raise InputError(f"label={label}: must be at most 2^62 - 1", field="label")
        self._leave_alone("begin_task")
        if label == self.training_task:
            raise InputError(f"label={label}: is the task in training", field="label")
        if str(label) in self.sparse_tasks:
            raise InputError(
                f"label={label}: was trained already; tasks so far: {self._known()}", field="label"
            )
        if self.hard:
            with self._as_if_ended():
                self._check_room(label)
        return label

    def end_task(self) -> None:
        """End the task in training: store it and, under hard isolation, protect its weights.

        Until the next one begins, the policy goes on acting as this task.

        Raises:
            RuntimeError: If no task is in training.
        """
        self._leave_alone("end_task")
        label = self.training_task
        if label is None:
            raise RuntimeError("no task is in training: begin one first")
        self._restore()
        self.sparse_tasks[str(label)] = Stored(self._slots, self._apart)
        self._set_training_task(None)
        _protect(self)

    @contextmanager
    def task(self, label: int) -> Iterator[ContinualPolicy]:
        """Act as one task inside a `with` block; the task in training, or one that has ended.

        Nothing can be trained, saved or loaded there. Target networks, which only training looks
        at, stay those of the latest task.

        Raises:
            InputError: If the task was never trained.
            RuntimeError: If the block is inside another.
        """
        self._leave_alone("task")
        if label != self.training_task and str(label) not in self.sparse_tasks:
            raise InputError(
                f"label={label}: was never trained; tasks so far: {self._known()}", field="label"
            )
        self._viewed = label
        kept: list[tuple[Tensor, Tensor]] = []
        try:
            if label != self.training_task:
                for tensor, values in self._network(label):
                    kept.append((tensor, tensor.data))
                    tensor.data = values
            yield self
        finally:
            for tensor, values in reversed(kept):
                tensor.data = values
            self._viewed = None

    def _network(self, label: int) -> Iterator[tuple[Tensor, Tensor]]:
        """List what to replace, and by what, for the policy to be an ended task's network."""
        stored = self._stored(str(label))
        for slot in self._slots:
            yield slot.tensor, stored.value(slot)
        for name, tensor in self._apart.items():
            mask = stored.masks.get(name, tensor.shape)
            yield tensor.mask, mask.to(tensor.mask.dtype)
            if name in self._trunk:
                yield tensor.weight, torch.where(mask, tensor.weight.detach(), 0.0)

    # What it knows --------------------------------------------------------------------------------

    @property
    def hard(self) -> bool:
        """Whether tasks are isolated."""
        return self.isolation == "hard"

    @property
    def training_task(self) -> int | None:
        """The label of the task in training."""
        number = number_of(self.sparse_task)
        return number - 1 if number else None

    def _set_training_task(self, label: int | None) -> None:
        digits = digits_of(0 if label is None else label + 1, PLACES)
        self.sparse_task.copy_(torch.tensor(digits, dtype=self.sparse_task.dtype))

    @property
    def ended_tasks(self) -> list[int]:
        """The labels of the tasks that have ended, in that order."""
        return [int(label) for label in self.sparse_tasks]

    def task_masks(self, label: int) -> dict[str, Tensor]:
        """Return an ended task's masks, bool, by network and weight, in the weight's shape.

        Raises:
            ValueError: If no task of this label has ended.
        """
        if str(label) not in self.sparse_tasks:
            raise InputError(
                f"label={label}: has not ended; tasks so far: {self._known()}", field="label"
            )
        stored = self._stored(str(label))
        return {name: stored.masks.get(name, tensor.shape) for name, tensor in self._apart.items()}

    def capacity(self) -> dict[str, float]:
        """Return which fraction of each weight of the trunk ended tasks hold."""
        held = {name: tensor.protected for name, tensor in self._trunk.items()}
        return {n: 0.0 if p is None else float(p.float().mean()) for n, p in held.items()}

    def capacity_used(self) -> float:
        """Return which fraction of all weights of the trunk ended tasks hold."""
        trunk = self._trunk.values()
        held = sum(int(t.protected.sum()) for t in trunk if t.protected is not None)
        return held / (sum(tensor.numel for tensor in trunk) or 1)

    def room(self) -> int | None:
        """Return how many tasks fit beside each other, at most; None: any number."""
        if not self.hard or self.share == "reuse":
            return None
        return min((t.numel // t.budget for t in self._trunk.values()), default=None)

    def set_training_mode(self, mode: bool) -> None:
        """Switch between training and evaluation; Stable-Baselines3 does so before it trains.

        Off-policy algorithms act for a while before they train, and would fill the replay buffer
        until then: they are refused when they begin to.

        Raises:
            RuntimeError: If no task is in training, or an ended one is looked at.
        """
        if mode or sys._getframe(1).f_code.co_name == ROLLOUT:
            self._leave_alone("learn")
            if self.training_task is None:
                raise RuntimeError("no task is in training: call begin_task before learn")
        super().set_training_mode(mode)  # type: ignore[misc]

    def _known(self) -> str:
        return ", ".join(map(str, self.ended_tasks)) or "none yet"

    def _stored(self, label: str) -> Stored:
        stored = self.sparse_tasks[label]
        assert isinstance(stored, Stored)
        return stored

    def _leave_alone(self, what: str) -> None:
        if self._viewed is not None:
            raise RuntimeError(f"{what}: leave `with policy.task({self._viewed})` first")

    # Beginning ------------------------------------------------------------------------------------

    def _find_slots(self) -> list[Slot]:
        assert isinstance(self, nn.Module)
        slots = slots_of(self, [tensor.weight for tensor in self._trunk.values()])
        if self.hard:
            return slots
        outputs = {
            self._roots[name].get_submodule(layer.name.rpartition(".")[0])
            for name, engine in self.sparse_engines.items()
            for layer in engine.layers()
            if layer.role == "output"
        }
        return [slot for slot in slots if slot.module in outputs or slot.module is self]

    @contextmanager
    def _as_if_ended(self) -> Iterator[None]:
        """Keep the weights of the task in training from being drawn, inside a `with` block."""
        with ExitStack() as stack:
            if self.training_task is not None:
                for tensor in self._trunk.values():
                    kept = tensor.protected, tensor.companion("frozen")
                    stack.callback(_protect_as, tensor, *kept)
                    held = tensor.active().reshape(tensor.shape)
                    before = tensor.protected
                    tensor.protect(held if before is None else held | before)
            yield

    def _check_room(self, label: int) -> None:
        for engine in self.sparse_engines.values():
            for tensor in engine.tensors:
                try:
                    draw_mask(tensor, engine.config.seed, label)
                except ValueError as error:
                    raise InputError(
                        f"task {label} does not fit: {error}; raise the sparsity, widen the layer, "
                        "or let tasks share weights with share='reuse'"
                    ) from None

    def _refresh_heads(self) -> None:
        for name, tensor in self._apart.items():
            if name not in self._trunk:
                tensor.start(self.sparse_fresh.masks.get(name, tensor.shape))
                if tensor.seen() is not None:
                    tensor.remember()
        for slot in self._slots:
            slot.tensor.data.copy_(self.sparse_fresh.value(slot))

    def _restore(self) -> None:
        """Write weights of ended tasks back: optimizers that no engine watches may move them."""
        for tensor in self._trunk.values():
            tensor.restore()

    def _start_targets(self) -> None:
        """Let target networks be what their networks are now."""
        assert isinstance(self, nn.Module)
        for name, target in self.named_children():
            if name.endswith("_target"):
                target.load_state_dict(getattr(self, name.removesuffix("_target")).state_dict())

    # Saving and loading ---------------------------------------------------------------------------

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load a state, its tasks too; all of it or nothing."""
        self._leave_alone("load_state_dict")
        return super().load_state_dict(state_dict, *args, **kwargs)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        stem = f"{prefix}sparse_tasks."
        labels = [key.removeprefix(stem) for key in state_dict if key.startswith(stem)]
        self.sparse_tasks.clear()
        for label in dict.fromkeys(rest.partition(".")[0] for rest in labels):
            self.sparse_tasks[label] = Stored(self._slots, self._apart)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        return data | {"isolation": self.isolation, "share": self.share}


class ContinualActorCriticPolicy(ContinualPolicy, SparseActorCriticPolicy):
    """The policy of PPO and A2C for tasks in sequence."""


class ContinualDQNPolicy(ContinualPolicy, SparseDQNPolicy):
    """DQN's policy for tasks in sequence."""


class ContinualSACPolicy(ContinualPolicy, SparseSACPolicy):
    """SAC's policy for tasks in sequence."""


class ContinualTD3Policy(ContinualPolicy, SparseTD3Policy):
    """The policy of TD3 and DDPG for tasks in sequence."""


POLICIES: Mapping[str, type[Any]] = {
    "ppo": ContinualActorCriticPolicy,
    "a2c": ContinualActorCriticPolicy,
    "dqn": ContinualDQNPolicy,
    "sac": ContinualSACPolicy,
    "td3": ContinualTD3Policy,
    "ddpg": ContinualTD3Policy,
}
"""Algorithm -> its policy."""


def _protect(policy: ContinualPolicy, incompatible_keys: object = None) -> None:
    """Keep the weights of ended tasks as they are from here on."""
    if not policy.hard:
        return
    ended = [policy._stored(label) for label in policy.sparse_tasks]
    for name, tensor in policy._trunk.items():
        masks = [stored.masks.get(name, tensor.shape) for stored in ended]
        tensor.protect(torch.stack(masks).any(0) if masks else None)


def _protect_as(tensor: SparseTensor, protected: Tensor | None, frozen: Tensor | None) -> None:
    tensor.set_companion("protected", protected)
    tensor.set_companion("frozen", frozen)


def _before_save(policy: ContinualPolicy, prefix: str, keep_vars: bool) -> None:
    policy._leave_alone("state_dict")
    policy._restore()
