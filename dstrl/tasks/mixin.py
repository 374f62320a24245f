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
With `isolation="apart"` each task has a dense network of its own, and nothing is shared. Networks
of the actor and of the critics are treated alike.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dstrl.policies.mixin import SparsePolicy
from dstrl.settings import Settings
from dstrl.tasks import capacity
from dstrl.tasks.rules import supported
from dstrl.tasks.stored import StoredTask, TaskParameter, task_parameters
from sparse_core.checks import InputError, whole
from sparse_core.clock import digits_of, number_of
from sparse_core.config import SparseConfig
from sparse_core.weights.masked import MaskedTensor

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
        isolation: `hard`: what a task has learnt stays as it is, to the bit. `none`, `apart`: see
            above.
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
        if isolation != "hard" and share != "none":
            raise InputError(
                f"share={share!r}: plays no part under isolation={isolation!r}", field="share"
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
            if isinstance(tensor, MaskedTensor)
        }
        self._trunk = {name: t for name, t in tensors.items() if t.role != "output"}
        for tensor in self._trunk.values():
            tensor.may_reuse = share == "reuse"
        self._own = self._find_own()
        heads = {name: t for name, t in tensors.items() if t.role == "output"}
        self._apart = tensors if self.hard else heads
        self.sparse_fresh = StoredTask(self._own, heads)
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
            training = self._trunk.values() if self.training_task is not None else ()
            with capacity.as_if_finished(training):
                capacity.check_room(self.sparse_engines.values(), label)
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
        self.sparse_tasks[str(label)] = StoredTask(self._own, self._apart)
        self._set_training_task(None)
        _protect(self)

    @contextmanager
    def task(self, label: int) -> Iterator[ContinualPolicy]:
        """Act as one task inside a `with` block; the task in training, or a finished one.

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
        """List what to replace, and by what, for the policy to be a finished task's network."""
        stored = self._stored(str(label))
        for parameter in self._own:
            yield parameter.tensor, stored.value(parameter)
        for name, tensor in self._apart.items():
            mask = stored.masks.get(name, tensor.shape)
            yield tensor.mask, mask.to(tensor.mask.dtype)
            if name in self._trunk:
                yield tensor.weight, torch.where(mask, tensor.weight.detach(), 0.0)

    # What it knows --------------------------------------------------------------------------------

    @property
    def hard(self) -> bool:
        """Whether finished tasks stay as they are."""
        return self.isolation != "none"

    @property
    def training_task(self) -> int | None:
        """The label of the task in training."""
        number = number_of(self.sparse_task)
        return number - 1 if number else None

    def _set_training_task(self, label: int | None) -> None:
        digits = digits_of(0 if label is None else label + 1, PLACES)
        self.sparse_task.copy_(torch.tensor(digits, dtype=self.sparse_task.dtype))

    @property
    def finished_tasks(self) -> list[int]:
        """The labels of the finished tasks, in the order of their ends."""
        return [int(label) for label in self.sparse_tasks]

    def task_masks(self, label: int) -> dict[str, Tensor]:
        """Return a finished task's masks, bool, by network and weight, in the weight's shape.

        Raises:
            ValueError: If no task of this label is finished.
        """
        if str(label) not in self.sparse_tasks:
            raise InputError(
                f"label={label}: is not finished; tasks so far: {self._known()}", field="label"
            )
        stored = self._stored(str(label))
        return {name: stored.masks.get(name, tensor.shape) for name, tensor in self._apart.items()}

    def capacity(self) -> dict[str, float]:
        """Return which fraction of each weight of the trunk finished tasks hold."""
        return {name: capacity.held(tensor) for name, tensor in self._trunk.items()}

    def capacity_used(self) -> float:
        """Return which fraction of all weights of the trunk finished tasks hold."""
        return capacity.held_of_all(self._trunk.values())

    def trained_weights(self) -> list[int]:
        """Count the weights that each finished task could train, by the masks of its end.

        Under hard isolation these are those of the trunk that no earlier task has, and all that are
        its own: heads and layers that stay dense. Biases are not counted.
        """
        layers = {
            f"{name}.{layer.name}": layer.active
            for name, engine in self.sparse_engines.items()
            for layer in engine.layers()
        }
        if self.isolation != "hard":
            return [sum(layers.values())] * len(self.sparse_tasks)
        kept_dense = sum(count for name, count in layers.items() if name not in self._apart)
        heads = self._apart.keys() - self._trunk.keys()
        masks = [self.task_masks(label) for label in self.finished_tasks]
        new = capacity.newly_held([{name: one[name] for name in self._trunk} for one in masks])
        own = [kept_dense + sum(int(one[name].sum()) for name in heads) for one in masks]
        return [mine + trunk for mine, trunk in zip(own, new, strict=True)]

    def room(self) -> int | None:
        """Return how many tasks fit beside each other, at most; None: any number."""
        if not self.hard or self.share == "reuse":
            return None
        return capacity.room(self._trunk.values())

    def set_training_mode(self, mode: bool) -> None:
        """Switch between training and evaluation; Stable-Baselines3 does so before it trains.

        Off-policy algorithms act for a while before they train, and would fill the replay buffer
        until then: they are refused when they begin to.

        Raises:
            RuntimeError: If no task is in training, or a finished one is looked at.
        """
        if mode or sys._getframe(1).f_code.co_name == ROLLOUT:
            self._leave_alone("learn")
            if self.training_task is None:
                raise RuntimeError("no task is in training: call begin_task before learn")
        super().set_training_mode(mode)  # type: ignore[misc]

    def _known(self) -> str:
        return ", ".join(map(str, self.finished_tasks)) or "none yet"

    def _stored(self, label: str) -> StoredTask:
        stored = self.sparse_tasks[label]
        assert isinstance(stored, StoredTask)
        return stored

    def _leave_alone(self, what: str) -> None:
        if self._viewed is not None:
            raise RuntimeError(f"{what}: leave `with policy.task({self._viewed})` first")

    # Beginning ------------------------------------------------------------------------------------

    def _find_own(self) -> list[TaskParameter]:
        assert isinstance(self, nn.Module)
        own = task_parameters(self, [tensor.weight for tensor in self._trunk.values()])
        if self.hard:
            return own
        outputs = {
            self._roots[name].get_submodule(layer.name.rpartition(".")[0])
            for name, engine in self.sparse_engines.items()
            for layer in engine.layers()
            if layer.role == "output"
        }
        return [one for one in own if one.module in outputs or one.module is self]

    def _refresh_heads(self) -> None:
        for name, tensor in self._apart.items():
            if name not in self._trunk:
                tensor.start(self.sparse_fresh.masks.get(name, tensor.shape))
                if tensor.seen() is not None:
                    tensor.remember()
        for parameter in self._own:
            parameter.tensor.data.copy_(self.sparse_fresh.value(parameter))

    def _restore(self) -> None:
        """Write weights of finished tasks back: optimizers that no engine watches may move them."""
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
            self.sparse_tasks[label] = StoredTask(self._own, self._apart)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        return data | {"isolation": self.isolation, "share": self.share}


def _protect(policy: ContinualPolicy, incompatible_keys: object = None) -> None:
    """Keep the weights of finished tasks as they are from here on."""
    if not policy.hard:
        return
    finished = [policy._stored(label) for label in policy.sparse_tasks]
    for name, tensor in policy._trunk.items():
        masks = [stored.masks.get(name, tensor.shape) for stored in finished]
        tensor.protect(torch.stack(masks).any(0) if masks else None)


def _before_save(policy: ContinualPolicy, prefix: str, keep_vars: bool) -> None:
    policy._leave_alone("state_dict")
    policy._restore()
