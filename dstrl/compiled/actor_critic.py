"""What the gradient steps of SAC, TD3 and DDPG have in common: transitions, and critics.

Observations and actions lie side by side in the input of the critics, so nothing is joined. In an
actor's pass the critics' own gradients are not computed, nor that of observations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.policies import ContinuousCritic

from dstrl.compiled.batches import Batches, lay_kernel
from dstrl.compiled.losses import (
    actor_kernel,
    least_kernel,
    squares_kernel,
    vote_kernel,
    wanted_kernel,
)
from dstrl.compiled.observations import Observations
from dstrl.compiled.program import StepProgram, trainer_of
from dstrl.compiled.refusals import check_policy
from sparse_core.step import CannotCompile, Chain, Shape, Trainer
from sparse_core.step.parts import add
from sparse_core.step.shape import Array, zeros
from sparse_core.step.tape import Tape


class ActorCriticProgram(StepProgram):
    """The gradient step of an algorithm with one actor and several critics.

    Args:
        model: The algorithm.
        batch_size: Samples of a batch.
        batches: Two if the actor proposes actions for observations and for the next ones at once.

    Attributes:
        features: Numbers in an observation.
        actions: Numbers in an action.
        observations: Of the batch.
        following: The observations that come next.
        now: Inputs of the critics for observations and what the actor proposes there.
        then: Those of their targets for the next observations.
        observed: What the actor reads, both if `batches` is two.
        least: `(batch,)`, the least of the critics' values that were computed last.
        coefficient: (1,), the weight of log probabilities.
        numbers: What is logged, in the order of the algorithm's `logged`.
    """

    def __init__(self, model: Any, batch_size: int, batches: int) -> None:
        check_policy(model)
        super().__init__(model, batch_size)
        self.critics = self._values_of("critic")
        self._critic_targets = self._values_of("critic_target")
        self.actions = actions = math.prod(model.action_space.shape)
        width = self.critics[0].in_features
        self.features = features = width - actions
        if features != math.prod(model.observation_space.shape):
            raise CannotCompile("critics do not read observations as they are")
        self.observations = Observations(self.shape, features)
        self.following = Observations(self.shape, features)
        raw = self.observations.raw, self.following.raw
        self.batches = Batches(model, self.shape, *raw, actions)
        self.lay = lay_kernel(self.shape.tile)
        both, trained = Shape.of(batch_size, batches=2), self.shape.trained
        self.proposed = both.forward(width)
        self.now, self.then = self.proposed[:trained], self.proposed[trained:]
        self._taken = self.shape.forward(width)
        self.least, self._wanted = zeros(batch_size), zeros(batch_size)
        self._chosen: NDArray[np.int64] = np.zeros(batch_size, np.int64)
        self.coefficient: NDArray[np.float64] = np.zeros(1)
        self.numbers: NDArray[np.float64] = np.zeros(len(model.logged))
        self.observed = both.forward(features) if batches == 2 else self.shape.forward(features)

    def _values_of(self, name: str) -> list[Chain]:
        critic = self.network(name, ContinuousCritic, "forward", "q1_forward")
        networks = enumerate(critic.q_networks)
        return [self.chain(network, f"{name}.qf{index}") for index, network in networks]

    def critic_trainer(self) -> Trainer:
        """Return what moves the critics, and their targets after them."""
        model = self.model
        pairs = zip(model.critic.parameters(), model.critic_target.parameters(), strict=True)
        return trainer_of(model.critic.optimizer, self.critics, pairs)

    def lay_actions(self, tape: Tape) -> None:
        """Bring the actions that were taken beside the observations."""
        tape.call(self.lay, self.batches.actions, self._taken, 0, self.features)

    def value_of_following(self, tape: Tape) -> None:
        """Compute what the targets think that comes next is worth, into `least`."""
        self.following.on_tape(tape, self.policy.critic_target.features_extractor, self.then)
        self._least(tape, [chain.on_tape(tape, self.then) for chain in self._critic_targets])

    def learn_values(self, tape: Tape, log_prob: Array, weight: float) -> None:
        """Compute the gradients of the critics.

        Args:
            tape: What does it, after `value_of_following`.
            log_prob: `(batch,)`, of the next actions, by whose weighted values those of what
                follows are less; empty: they are not.
            weight: Of each critic's mean squared error in the loss.
        """
        outcomes = self.batches.rewards, self.batches.remaining
        tape.call(wanted_kernel(), *outcomes, self.least, log_prob, self.coefficient, self._wanted)
        self.observations.on_tape(tape, self.policy.critic.features_extractor, self._taken)
        for chain in self.critics:
            values, place = chain.on_tape(tape, self._taken), self.place("critic_loss")
            tape.call(
                squares_kernel(), values, self._wanted, weight, chain.signal, self.numbers, place
            )
            chain.backward_on_tape(tape)

    def judge(self, tape: Tape, critics: list[Chain], log_prob: Array) -> Array:
        """Compute the actor's loss: the least of what critics think of its actions, and entropy.

        Args:
            tape: What does it.
            critics: The least of whose values counts.
            log_prob: `(batch,)`, of the actions, weighted; or empty.

        Returns:
            `(trained, actions, tile)`, where the gradient of *minus* the mean value by actions
            will lie.
        """
        self.observations.on_tape(tape, self.policy.critic.features_extractor, self.now)
        self._least(tape, [chain.on_tape(tape, self.now) for chain in critics])
        of_action: Array | None = None
        for index, chain in enumerate(critics):
            tape.call(vote_kernel(), self._chosen, index, chain.signal)
            part = chain.backward_on_tape(tape, train=False, first=self.features)
            assert part is not None
            if of_action is not None:
                add(tape, of_action, part, of_action)
            of_action = part if of_action is None else of_action
        assert of_action is not None
        place = self.place("actor_loss")
        tape.call(actor_kernel(), self.least, log_prob, self.coefficient, self.numbers, place)
        return of_action

    def _least(self, tape: Tape, outputs: list[Array]) -> None:
        for index, output in enumerate(outputs):
            tape.call(least_kernel(), output, index, self.least, self._chosen)

    def place(self, name: str) -> int:
        """Return the place of a number that is logged."""
        logged: tuple[str, ...] = self.model.logged
        return logged.index(name)
