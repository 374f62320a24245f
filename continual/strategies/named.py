"""Published ways to give each task its part of one network, as Avalanche strategies.

    strategy = PackNet(model=net, optimizer=SGD(net.parameters(), lr=0.1), sparse=SparseConfig(
        sparsity=0.8), train_epochs=10)

Each is Avalanche's `Naive` with a `TaskMasks` model and `MaskIsolation`, and the settings of its
recipe (`continual.strategies.recipes`). What they have in common is a deviation from most papers:
budgets are exact in each layer, finished tasks are read from copies of their weights, which no
optimizer reaches, and not protected by zeroing gradients alone, biases, heads and normalisation
layers are each task's own, and tasks are known at test time unless a selector is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from continual.avalanche_compat import avalanche
from continual.strategies.plugins import MaskIsolation, check_plugins
from continual.strategies.recipes import check_isolated, resolve
from continual.tasks.masks import TaskMasks
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig


class _Named(avalanche.training.Naive):  # type: ignore[name-defined, misc]
    """`Naive` with the masks of a recipe."""

    recipe: str

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        sparse: SparseConfig | None = None,
        isolation: str = "hard",
        share: str = "none",
        reserve: float = 0.1,
        unseen: str = "evaluation",
        infer: str | None = None,
        roles: Mapping[str, str] | None = None,
        tasks: int | None = None,
        compiled: bool = True,
        plugins: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        """Make the strategy.

        Args:
            model: The network, which ends in a linear layer with the classes of one task. It is
                wrapped in place: `strategy.model` is a `TaskMasks`.
            optimizer: Trains the network's parameters.
            sparse: The sparsity of each task's network.
            isolation: `hard`, which they all need.
            share: A sharing policy, for strategies that leave the choice.
            reserve: As in `TaskMasks`, and so are the next six.
            unseen: What answers for labels that were never trained.
            infer: The selector for samples without a label in evaluation.
            roles: Which layer is the head, where the order of layers does not say it.
            tasks: How many there will be.
            compiled: Whether training is compiled where that can be done.
            plugins: More of Avalanche's plugins.
            **options: As `avalanche.training.Naive` takes them.

        Raises:
            ValueError: If `sparse`, `share` or `isolation` contradict the strategy, a plugin cannot
                go with it, or `TaskMasks` refuses the network. Nothing is changed then.
        """
        if isinstance(model, TaskMasks):
            raise InputError(
                f"{type(self).__name__} makes the TaskMasks by itself: pass the dense network as "
                "model, and the SparseConfig as sparse"
            )
        check_isolated(self.recipe, isolation)
        check_plugins(plugins or ())
        config, policy = resolve(self.recipe, sparse or SparseConfig(), share)
        masks = TaskMasks(
            model,
            config,
            isolation=isolation,
            share=policy,
            reserve=reserve,
            unseen=unseen,
            infer=infer,
            roles=roles,
            tasks=tasks,
            batch=options.get("train_mb_size", 1),
            compiled=compiled,
        )
        super().__init__(
            model=masks,
            optimizer=optimizer,
            plugins=[*(plugins or ()), MaskIsolation()],
            **options,
        )


class CLDST(_Named):
    """Dynamic sparse training for continual learning (Yildirim et al. 2024, PMLR 234).

    A new random topology for each task over all weights, those of earlier tasks included; drop by
    magnitude, growth at random, unfired, by gradient or momentum; ERK or uniform.

    Deviations: a weight of an earlier task that is grown has its frozen value in training as well
    as at test (the published code trains with zero and tests with the value); gradient growth may
    admit earlier weights, because it sees the dense gradient before it is masked; the drop fraction
    falls to zero at `stop_at`; a head for each task instead of one for all classes.
    """

    recipe = "cldst"


class SpaceNet(_Named):
    """SpaceNet: make free space for continual learning (Sokar et al. 2021).

    Drop the connections of least importance, grow between the most important neurons; when a task
    ends, its most important neurons are reserved (`reserve`: a fraction of each layer), read by
    later tasks and never written.

    Deviations: importance is |w dL/dw| at the update instead of its sum over the steps between two
    updates; a neuron is reserved by the magnitudes of its incoming weights; the network of a task
    is made of its own weights and of reserved neurons, where SpaceNet adds those of all tasks in
    the neurons that are free; budgets follow the distribution, where the published ones are given
    layer by layer; a head for each task.
    """

    recipe = "spacenet"


class PackNet(_Named):
    """PackNet: adding multiple tasks by iterative pruning (Mallya and Lazebnik 2018).

    A task trains all free weights, reads all those of earlier tasks, is pruned by magnitude to its
    budget halfway through its training, and trains on. As published, each layer keeps the same
    fraction (`distribution="uniform"`), and heads stay dense.

    Deviations: the budget is `1 - sparsity` of all weights for each task, not a fraction of those
    that are free; free weights are drawn anew for each task, not left at zero; biases and
    normalisation layers are each task's own, not frozen after the first.
    """

    recipe = "packnet"


class WSN(_Named):
    """Forget-free continual learning with winning subnetworks (Kang et al. 2022).

    Each task learns scores beside the weights; its mask is the budget's highest scores, among free
    and earlier weights alike; earlier weights are read and never written. As in the published code,
    each layer keeps the same fraction (`distribution="uniform"`), and heads stay dense.

    Deviations: the mask is chosen after each step, not in each forward pass, which is the same for
    one pass a step; masks are stored as plain bits, not Huffman-coded; scores of finished tasks are
    kept beside their masks.
    """

    recipe = "wsn"


class SupSup(_Named):
    """Supermasks in superposition (Wortsman et al. 2020).

    The weights are random signed constants that never change; each task learns a mask over them by
    scores (edge-popup), and masks may overlap in any way. The distribution is the caller's: the
    published experiments on CIFAR-100 and ImageNet share the budget by (n_in + n_out) / weights,
    at most half of a layer, to which the default ERK adds the sides of the kernels.

    Deviations: biases train, and are each task's own; the head's weights are fixed and masked as
    all others, its classes those of one task; scores of finished tasks are kept beside their masks.
    To infer tasks there are the selectors of `continual.tasks.inference`, not the gradient of the
    entropy.
    """

    recipe = "supsup"


class StaticMasks(_Named):
    """Random masks that never move: the baseline that dynamic ones have to beat.

    As in FOCIL (Yildirim et al. 2024), whose masks are random, ERK and static.
    Deviation: no detection of drift, no ensemble.
    """

    recipe = "static"


class SRigLCL(_Named):
    """SRigL (Lasby et al. 2024) for each task: constant fan-in, ablated neurons, and isolation.

    With `backend="condensed"` tasks train and are evaluated on condensed layers.
    """

    recipe = "srigl"
