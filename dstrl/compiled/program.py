"""What the gradient steps of all algorithms have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dstrl.compiled.refusals import check_engines, check_network, has_hooks
from sparse_core.plain_steps import PlainSteps
from sparse_core.step import CannotCompile, Chain, Shape, Trainer


class Program(ABC):
    """The gradient step of one algorithm, for one batch size.

    Attributes:
        networks: Those that it computes.

    It refers to the algorithm's networks, but is not a part of it: copies and pickles of a program
    are empty, since they would train the networks of the original.

    Args:
        model: The algorithm.
        batch_size: Samples of a batch.
    """

    def __init__(self, model: Any, batch_size: int) -> None:
        self.model, self.batch_size = model, batch_size
        self.policy = model.policy
        self.shape = Shape.of(batch_size)
        engines = self.policy.sparse_engines
        self.engines = {name: PlainSteps(engine) for name, engine in engines.items()}
        self.networks: list[nn.Module] = []
        self._chains: list[Chain] = []
        self._trainers: list[Trainer] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def network(self, name: str, original: type[nn.Module], *methods: str) -> Any:
        """Return a network of the policy; see `check_network`."""
        network = getattr(self.policy, name)
        check_network(network, name, original, methods)
        self.networks.append(network)
        return network

    def chain(self, modules: nn.Module, name: str, shape: Shape | None = None) -> Chain:
        """Make a chain that is bound anew together with the program."""
        made = Chain(modules, shape or self.shape, name)
        self._chains.append(made)
        return made

    def fits(self, batch_size: int) -> bool:
        """Whether it is for batches of this size, and for the policy that there is now."""
        return self.batch_size == batch_size and self.model.policy is self.policy

    def is_plain(self) -> bool:
        """Whether the coming step moves weights and nothing else."""
        return all([engine.next_is_plain() for engine in self.engines.values()])

    def holds(self) -> bool:
        """Whether networks, optimizers and topologies are as they were."""
        parts: list[Any] = [*self._chains, *self._trainers, *self.engines.values()]
        return all([part.holds() for part in parts]) and not any(map(has_hooks, self.networks))

    def bind(self) -> None:
        """Read anew what has changed: topologies, tensors, the optimizers' state.

        Raises:
            CannotCompile: If something is there now that it does not know.
        """
        check_engines(self.policy)
        for network in self.networks:
            if has_hooks(network):
                raise CannotCompile(f"{type(network).__name__} has hooks")
        self.engines = {name: PlainSteps(each.engine) for name, each in self.engines.items()}
        for chain in self._chains:
            chain.bind()
        self._trainers = self.make_trainers()
        self.make_tapes()

    def before(self) -> None:
        """Tell the engines that a plain step comes; targets may take other topologies now."""
        for engine in self.engines.values():
            engine.before()

    def coming(self, most: int) -> int:
        """Return how many plain steps come, at most `most`."""
        return min([most, *[engine.coming(most) for engine in self.engines.values()]])

    def after(self, *names: str, steps: int = 1) -> None:
        """Tell engines that their networks have made plain steps."""
        for name in names:
            self.engines[name].after(steps)

    @abstractmethod
    def make_trainers(self) -> list[Trainer]:
        """Make what moves the parameters."""

    @abstractmethod
    def make_tapes(self) -> None:
        """Put the step on tapes, for networks and trainers as they are now."""


class StepProgram(Program):
    """The program of an algorithm that draws each batch from a replay buffer by itself."""

    @abstractmethod
    def step(self) -> dict[str, float]:
        """Make a gradient step; return what is logged of it, without `train/`."""


def trainer_of(
    optimizer: Optimizer,
    chains: Sequence[Chain],
    followed: Iterable[tuple[Tensor, Tensor]] = (),
) -> Trainer:
    """Return what moves the parameters of chains, as an optimizer would.

    Args:
        optimizer: Of all their parameters.
        chains: Networks, or parts of one.
        followed: Its parameters, each with the target that follows it; empty: none do.
    """
    layers = [layer for chain in chains for layer in chain.layers]
    targets = {id(online): target for online, target in followed}
    parameters = optimizer.param_groups[0]["params"] if targets else []
    return Trainer(
        optimizer,
        [pair for chain in chains for pair in chain.gradients()],
        [targets[id(parameter)] for parameter in parameters],
        [(layer.bias, layer.dead) for layer in layers if layer.dead is not None],
    )
