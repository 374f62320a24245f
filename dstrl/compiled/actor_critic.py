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

from dstrl.compiled.batches import Batches
from dstrl.compiled.observations import Observations
from dstrl.compiled.program import StepProgram, trainer_of
from dstrl.compiled.refusals import check_policy
from sparse_core.step import CannotCompile, Chain, Shape, Trainer
from sparse_core.step.shape import Array


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
        self._batches = Batches(model, self.shape)
        self.lay = self._batches.lay
        self.observations = Observations(self.shape, features)
        self.following = Observations(self.shape, features)
        both, trained = Shape.of(batch_size, batches=2), self.shape.trained
        self.proposed = both.forward(width)
        self.now, self.then = self.proposed[:trained], self.proposed[trained:]
        self._taken = self.shape.forward(width)
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

    def sample(self) -> tuple[Array, Array]:
        """Draw transitions.

        Returns:
            `(batch,)` rewards, and discounts that are zero at the end of episodes.
        """
        drawn = self._batches.draw(self.observations.raw, self.following.raw)
        actions, rewards, remaining = drawn
        self.lay(actions.reshape(len(actions), -1), self._taken, 0, self.features)
        return rewards, remaining

    def value_of_following(self) -> Array:
        """Return `(batch,)`, what the targets think that comes next is worth."""
        self.following.read(self.policy.critic_target.features_extractor, self.then)
        return self._least([chain.forward(self.then) for chain in self._critic_targets])[0]

    def learn_values(self, wanted: Array, weight: float) -> float:
        """Compute the gradients of the critics.

        Args:
            wanted: `(batch,)`, the target of all critics.
            weight: Of each critic's mean squared error in the loss.

        Returns:
            The loss.
        """
        batch, loss = self.batch_size, 0.0
        self.observations.read(self.policy.critic.features_extractor, self._taken)
        for chain in self.critics:
            error = chain.forward(self._taken).reshape(-1)[:batch] - wanted
            loss += weight * float(error @ error) / batch
            signal = chain.signal.reshape(-1)[:batch]
            np.multiply(error, np.float32(2 * weight / batch), out=signal)
            chain.backward()
        return loss

    def judge(self, critics: list[Chain]) -> tuple[Array, Array]:
        """Return what critics think of the actor's actions, and its mean's gradient by actions.

        Args:
            critics: The least of whose values counts.

        Returns:
            `(batch,)` values, and `(trained, actions, tile)`, the gradient of *minus* their mean.
        """
        batch = self.batch_size
        self.observations.read(self.policy.critic.features_extractor, self.now)
        values, chosen = self._least([chain.forward(self.now) for chain in critics])
        of_action: Array | None = None
        for index, chain in enumerate(critics):
            signal = chain.signal.reshape(-1)[:batch]
            np.multiply(chosen == index, np.float32(-1 / batch), out=signal)
            part = chain.backward(train=False, first=self.features)
            assert part is not None
            of_action = part if of_action is None else np.add(of_action, part, out=of_action)
        assert of_action is not None
        return values, of_action

    def _least(self, outputs: list[Array]) -> tuple[Array, NDArray[np.int64]]:
        """Return the least of the critics' values for each sample, and whose it is."""
        values = [output.reshape(-1)[: self.batch_size] for output in outputs]
        least, chosen = values[0], np.zeros(self.batch_size, np.int64)
        for index, other in enumerate(values[1:], 1):
            smaller = other < least
            chosen[smaller] = index
            least = np.where(smaller, other, least)
        return least, chosen
