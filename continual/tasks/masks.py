"""`TaskMasks`: one network, and in it a sparse network for each task, from its begin to its end.

    output of task k = network(weights * mask_k, own tensors of task k)

The topology of a task moves while it is in training, by the same engine as everywhere; when it
ends, its masks are stored as bits and, under hard isolation, its weights are never written again.
Masks are applied functionally: a batch that mixes tasks is one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from continual.tasks import validation
from continual.tasks.answering import Answering
from continual.tasks.capacity import Capacity, LayerRoom
from continual.tasks.checkpoints import prepare, rules_of
from continual.tasks.experiences import labels_of
from continual.tasks.isolation import protect, reserve
from continual.tasks.plan import Plan
from continual.tasks.pruning import left_to_prune, prune
from continual.tasks.task import NO_TASK, TaskState, check_apart, own_places
from sparse_core.budgets.selection import select
from sparse_core.building import sparsify
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.layers.choice import TYPICAL_BATCH


class TaskMasks(Answering):
    """A multi-task module around any network; Avalanche's strategies take it as their model.

    Each task has masks of its own over the shared weights of linear and convolutional layers, with
    exactly the budget that the configuration gives each layer (with constant fan-in a multiple of
    the neurons that are open to it, so less with `share="forward"`), and its own copy of all other
    tensors: biases, the last layer (the head), normalisation layers with their running statistics,
    layers that stay dense. Under hard isolation every task starts from new random masks and
    weights, and what is read of finished ones is kept apart from the network's parameters: neither
    an optimizer nor anybody else who writes into these changes it.

    With `backend="condensed"` or `"auto"` linear layers compute on the weights that a task can see
    and no others. Convolutions, and everything that is not on the CPU, stay masked. Backends visit
    the same topologies and agree to rounding; within one, finished tasks answer the same to the
    bit.

    Attributes:
        model: The network.
        plan: How many tasks fit, and what would make more fit.
        head: The weight that makes the logits; each task has its own.
    """

    rules: Tensor

    def __init__(
        self,
        model: nn.Module,
        config: SparseConfig | None = None,
        *,
        isolation: str = "hard",
        share: str = "none",
        reserve: float = 0.1,
        unseen: str = "evaluation",
        infer: str | None = None,
        roles: Mapping[str, str] | None = None,
        tasks: int | None = None,
        batch: int = TYPICAL_BATCH,
        compiled: bool = True,
    ) -> None:
        """Wrap a network, in place.

        Args:
            model: Ends in a linear layer with the classes of one task; labels start from zero in
                each task. This layer, the head, is each task's own. It is taken to be the layer
                registered last; the first forward pass tells if another one makes the logits.
            config: The sparsity of each task's network.
            isolation: `hard`: what a task has learnt stays as it is, to the bit. `none`: one
                network, whose topology and weights go on changing; only heads are apart.
            share: Under hard isolation, what a task may do with the weights of earlier ones, one of
                `continual.tasks.rules.SHARING_POLICIES`; `continual.tasks.isolation` says what they
                mean.
            reserve: With `forward`, the fraction of each hidden layer's neurons that each task
                keeps to itself, in [0, 1), at least one.
            unseen: What a label that was never trained gets. `evaluation`: in an Avalanche strategy
                with `MaskIsolation`, which evaluates before training too, the answer of the network
                that a task would begin with (`continual.strategies.evaluating`), elsewhere an
                error. `error`: always an error. `latest`: the latest task's answer, before the
                first that of the untrained network.
            infer: The selector (`continual.tasks.inference`) for samples without a label in
                evaluation;
                None: the latest task's network answers.
            roles: As in `sparsify`. Whatever is `output` there is the head.
            tasks: How many there will be, where that is known: if they do not fit beside each
                other, that is said before the first is trained, and what would help; and SRigL's
                ablation leaves them the places that they need.
            batch: Samples of a training batch, which `backend="auto"` asks for.
            compiled: Compile the passes of a task in training where that can be done, see
                `continual.tasks.compiling`; it is an attribute, too.

        Raises:
            ValueError: If an argument has no such value, or the network cannot be shared by tasks,
                or not by so many. The network is unchanged then.
        """
        config = config or SparseConfig()
        validation.check_arguments(config, isolation, share, reserve, unseen, infer, tasks)
        validation.check_network(model)
        config = validation.shared_backend(config, model)
        check_apart(model)
        selected = select(model, roles)
        plan = Plan(selected, config, share, reserve)
        if tasks is not None and isolation == "hard":
            plan.check(tasks)
        super().__init__()
        # Registered before the network, so that a task's parameters keep their names when it ends.
        self.tasks = nn.ModuleDict()
        self.engine = sparsify(
            model,
            config,
            roles=roles,
            batch=batch,
            keep_masked=[plan.head] if isolation == "none" else (),
            apart=[plan.head] if isolation == "hard" and share != "reuse" else None,
        )
        self.engine.many_tasks = True
        self.engine.on_step.append(self._note_step)
        self.plan = plan
        self.head = plan.head
        self._planned = tasks
        self.isolation = isolation
        self.unseen = unseen
        self.beginner = None
        self.infer = infer
        self.compiled = compiled
        self._traced = "output" in (roles or {}).values()  # whether it is known what is the head
        self._places = own_places(model, self.engine, self.hard)
        self._shared = [tensor for tensor in self.engine.tensors if tensor.name != plan.head]
        for tensor in self._shared:
            tensor.may_reuse = share == "reuse"
        self.share = share
        self.reserve = reserve if share == "forward" else None
        self.fresh = TaskState(
            NO_TASK, {place: place.tensor.detach().clone() for place in self._places}
        )
        self.model = model
        self.register_buffer("current", torch.tensor(NO_TASK))
        self.register_buffer("rules", rules_of(isolation, share))
        self.register_load_state_dict_post_hook(_after_load)
        self.register_state_dict_pre_hook(_before_save)

    # The life of a task ---------------------------------------------------------------------------

    def adaptation(self, experience: Any) -> None:
        """Begin the task of an experience, before training; without labels it is a task itself."""
        if not self.training:
            return
        labels = self.check(labels_of(experience))
        if self.label is not None and self.label not in labels and self._unwatched:
            raise RuntimeError(validation.still_in_training(self.label))
        for label in labels:
            self.begin(label)

    def begin(self, label: int) -> None:
        """Begin a task: new masks beside those of earlier tasks, new own tensors.

        Args:
            label: The task's label, an integer, not negative. The task in training may be named
                again; an finished one only without isolation, where its training goes on.

        Raises:
            ValueError: If the label cannot be trained, or a layer has too little room for the task.
                Nothing is changed then.
            RuntimeError: If another task is still in training.
        """
        (label,) = self.check([label])
        if label == self.label:
            return
        if self.label is not None:
            if self.hard:
                raise RuntimeError(validation.still_in_training(self.label))
            self.end()
        if str(label) in self.tasks:
            self._resume(label)
        else:
            self._add(label)
            self._keep_room()
        self.known_train_tasks_labels = self.known_train_tasks_labels | {label}
        self.current.fill_(self._task(label).index)
        self._has_begun()

    def _add(self, label: int) -> None:
        index = len(self.tasks)
        before = [(place, place.tensor) for place in self._places]
        task = TaskState(index, dict(before) if index == 0 else self._new_tensors())
        self._bind(task)
        self._restore()
        try:
            if self.hard:
                self.engine.redraw(index)
            elif index > 0:
                self.engine.redraw(index, names=[tensor.name for tensor in self._masked_apart()])
        except ValueError as error:
            for place, tensor in before:
                place.bind(tensor)
            self.engine.refresh()
            raise InputError(
                f"task {label} does not fit: {error}; {self.plan.remedies(index + 1)}"
            ) from None
        self.tasks[str(label)] = task

    def _keep_room(self) -> None:
        """Let ablation in the task in training leave those that are announced their places."""
        if self._planned is not None and self.hard and self.share != "reuse":
            later = self._planned - len(self.tasks)
            for tensor in self._shared:
                tensor.spare = LayerRoom.of(tensor).claim(later, self.reserve)

    def _resume(self, label: int) -> None:
        task = self._task(label)
        self._bind(task)
        for tensor in self._masked_apart():
            tensor.start(task.masks.get(tensor.name, tensor.shape))
        task.masks.clear()
        self.engine.restart()

    def prune(self) -> bool:
        """Prune the task in training to its budget, if its method starts dense and has not yet.

        For training that is over before the method's schedule is.

        Returns:
            Whether there was anything to prune.
        """
        due = left_to_prune(self.engine) > 0
        if due:
            prune(self.engine)
        return due

    def end(self) -> None:
        """End the task in training: store its masks and, under hard isolation, freeze its tensors.

        Raises:
            RuntimeError: If no task is in training, it was not yet pruned to its budget, or its
                masks never moved or its own tensors never trained, for want of an attached
                optimizer. Nothing is changed then.
        """
        if self.label is None:
            raise RuntimeError("no task is in training: begin one first")
        task = self._task(self.label)
        self._check_trained(self.label)
        if self.hard:
            validation.check_pruned(self.engine)
        self._restore()
        task.collect(self._places)
        task.leave_copies(self._places)
        for tensor in self._masked_apart():
            task.masks.put(tensor.name, tensor.active())
        if self.hard:
            task.freeze()
            if self.reserve is not None:
                reserve(self._shared, task, self.reserve)
            protect(self._shared, self._finished(), self.share)
        self.current.fill_(NO_TASK)
        self._has_finished()

    # What it knows --------------------------------------------------------------------------------

    def capacity(self) -> list[Capacity]:
        """Return how far each shared layer is used up."""
        return [Capacity.of(tensor) for tensor in self._shared]

    def room(self) -> int | None:
        """Return how many more tasks fit beside the finished ones; None: any number.

        That is sure unless SRigL's ablation makes neurons denser while others go, and takes places
        that later tasks would need; with `tasks` as many are left to them as they need.
        """
        if not self.hard or any(tensor.may_reuse for tensor in self._shared):
            return None
        return min((LayerRoom.of(t).room(self.reserve) for t in self._shared), default=None)

    # Moving, saving and loading -------------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TaskMasks:
        validation.check_move(self.engine, fn)
        self._reconsider()
        return super()._apply(fn, recurse)  # type: ignore[no-any-return]

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        prepare(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _before_save(module: TaskMasks, prefix: str, keep_vars: bool) -> None:
    module._restore()


def _after_load(module: TaskMasks, incompatible_keys: object) -> None:
    module.known_train_tasks_labels = set(module.labels)
    if module.hard:
        for task in module._finished():
            task.freeze()
        protect(module._shared, module._finished(), module.share)
        module._keep_room()
