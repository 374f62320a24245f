"""What the gradient steps of all algorithms have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.utils import polyak_update
from torch import Tensor, nn
from torch.optim import Optimizer

from dstrl.compiled.refusals import check_engines, check_network, has_hooks
from sparse_core.engine import Engine
from sparse_core.plain_steps import PlainSteps
from sparse_core.step import CannotCompile, Chain, Shape, Tape, Trainer
from sparse_core.step.layers import Weights
from sparse_core.step.tape import STOP, Mark


@dataclass(frozen=True)
class Turn:
    """A trainer's step on a tape.

    Attributes:
        tape: The tape.
        trainer: The trainer.
        names: Of the engines whose networks it moves.
        clipped: Whether gradients were clipped before.
        begin: Where its step begins.
        end: Where it ends.
    """

    tape: Tape
    trainer: Trainer
    names: tuple[str, ...]
    clipped: bool
    begin: Mark
    end: Mark


class Program(ABC):
    """The gradient step of one algorithm, for one batch size.

    Attributes:
        networks: Those that it computes.
        moving: Whether a topology moves in the coming step, as `is_served` found it.

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
        self.moving = False
        self._chains: list[Chain] = []
        self._trainers: list[Trainer] = []
        self._tapes: list[Tape] = []
        self._turns: list[Turn] = []

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

    def is_served(self) -> bool:
        """Whether it can make the coming step."""
        plain = {name: engine.next_is_plain() for name, engine in self.engines.items()}
        self.moving = not all(plain.values())
        return not self.moving or all(
            plain[name] or (engine.next_moves() and self._knows(engine.engine))
            for name, engine in self.engines.items()
        )

    def _knows(self, engine: Engine) -> bool:
        """Whether all layers of an engine are in its chains."""
        known = {id(layer.module) for layer in self._weights()}
        return all(id(tensor.layer) in known for tensor in engine.tensors)

    def _weights(self) -> list[Weights]:
        layers = [layer for chain in self._chains for layer in chain.layers]
        return [layer for layer in layers if isinstance(layer, Weights)]

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
        if self._only_moved():
            self._follow()
            return
        self.engines = {name: PlainSteps(each.engine) for name, each in self.engines.items()}
        for chain in self._chains:
            chain.bind()
        self._turns = []
        self._trainers = self.make_trainers()
        self._tapes = self.make_tapes()

    def _only_moved(self) -> bool:
        """Whether nothing but topologies has changed."""
        parts: list[Any] = [*self._trainers, *self.engines.values()]
        return bool(self._tapes) and all(
            [part.holds() for part in parts] + [chain.holds_tensors() for chain in self._chains]
        )

    def _follow(self) -> None:
        """Take topologies that have moved, and nothing else."""
        changed = [layer for layer in self._weights() if not layer.holds()]
        for layer in changed:
            layer.read_topology()
        for tape in self._tapes:
            tape.renew(changed)
        for chain in self._chains:
            chain.renew(changed)

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

    def turn(self, tape: Tape, trainer: Trainer, *names: str, clip: bool = False) -> None:
        """Let a tape make the step of a trainer, after which topologies may move.

        Args:
            tape: What does it.
            trainer: What moves the parameters.
            names: Of the engines whose networks it moves.
            clip: Whether gradients are clipped before.
        """
        if clip:
            trainer.clip_on_tape(tape)
        begin = tape.mark()
        trainer.on_tape(tape)
        self._turns.append(Turn(tape, trainer, names, clip, begin, tape.mark()))

    def run_moving(self, tape: Tape, tau: float = 0.0) -> bool:
        """Run a tape in parts, between which the topologies move for which it is time.

        Args:
            tape: One of those that `make_tapes` made.
            tau: What targets of its trainers take from the parameters.

        Returns:
            Whether it came to its end.
        """
        place: Mark | None = None
        for turn in self._turns:
            if turn.tape is not tape:
                continue
            tape.run(1, place, turn.begin)
            if tape.control[STOP]:
                return False
            place = turn.end
            engines = [self.engines[name] for name in turn.names]
            moving = [engine for engine in engines if engine.next_moves()]
            if moving:
                self._show(turn, moving)
            tape.run(1, turn.begin, turn.end)
            turn.trainer.has_moved()
            for engine in engines:
                if engine in moving:
                    engine.after_move()
                else:
                    engine.after()
            if moving:
                self._follow()
            if turn.trainer.target:
                polyak_update(turn.trainer.parameters, turn.trainer.target, tau)
        tape.run(1, place)
        return True

    def _show(self, turn: Turn, moving: Sequence[PlainSteps]) -> None:
        """Show engines the gradients of the step to come."""
        layers = {id(layer.module): layer for layer in self._weights()}
        for parameter, gradient in turn.trainer.gradients:
            shaped = torch.from_numpy(gradient).view(parameter.shape)
            parameter.grad = shaped if turn.clipped else None
        for engine in moving:
            engine.before_move(lambda module: layers[id(module)].product(self.batch_size))
        for each in turn.trainer.parameters:
            each.grad = None

    @abstractmethod
    def make_trainers(self) -> list[Trainer]:
        """Make what moves the parameters."""

    @abstractmethod
    def make_tapes(self) -> list[Tape]:
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
        layers,
    )
