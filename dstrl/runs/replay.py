"""RLx2's replay: n-step targets that begin late, and a buffer that forgets what is off-policy.

    distance = 1/2 mean (pi(s) - a_mean)^2      over the oldest transitions

where a_mean is what the policy would have done without noise when the transition was made (Tan et
al. 2023, "RLx2", section 4.2). If the distance exceeds a threshold, the oldest tenth is forgotten.
While a sparse network's topology still moves, its values are unreliable, so n-step targets begin
only after some gradient steps (section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize

from dstrl.watching.transitions import row_of

FORGOTTEN = 0.1
"""The fraction of the transitions held that one shrinking forgets."""

BATCHES = 8
"""The distance is measured on so many batches of the oldest transitions."""


class DynamicReplayBuffer(NStepReplayBuffer):
    """A ring buffer whose oldest transitions can be forgotten before it is full.

    Attributes:
        held: Transitions of each environment that can be sampled.
        means: `(buffer_size, n_envs, action_dim)`, what the policy would have done without noise,
            scaled to [-1, 1].
        next_mean: `(n_envs, action_dim)`, of the transition that is added next; None: its action,
            as while actions are drawn uniformly.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.held = 0
        self.means = np.zeros_like(self.actions)
        self.next_mean: NDArray[np.float32] | None = None

    def add(self, obs: Any, next_obs: Any, action: Any, *args: Any, **kwargs: Any) -> None:
        """Add a transition of each environment, with the mean of its action."""
        mean = action if self.next_mean is None else self.next_mean
        self.means[self.pos] = np.reshape(mean, (self.n_envs, self.action_dim))
        self.next_mean = None
        super().add(obs, next_obs, action, *args, **kwargs)
        self.held = min(self.held + 1, self.buffer_size)

    def size(self) -> int:
        """Return `held`."""
        return self.held

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.held = 0

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Sample from what is held."""
        ages = np.random.randint(0, self.held, size=batch_size)
        return self._get_samples(row_of(self, ages), env=env)

    def oldest(self, count: int) -> NDArray[np.int64]:
        """Return the rows of the `count` oldest transitions that are held, oldest first."""
        return row_of(self, self.held - 1 - np.arange(min(count, self.held)))

    def distance(self, act: Callable[[Any], NDArray[Any]], count: int) -> float:
        """Return how far the policy has moved since the `count` oldest transitions were made.

        Args:
            act: Maps `(n, *obs_shape)` observations to `(n, action_dim)` actions without noise,
                scaled to [-1, 1].
            count: Transitions of each environment.
        """
        rows = self.oldest(count)
        observations = self.observations[rows].reshape(-1, *self.obs_shape)
        moved = act(observations) - self.means[rows].reshape(-1, self.action_dim)
        return float(np.mean(np.square(moved)) / 2)

    def shrink(self) -> None:
        """Forget the oldest tenth."""
        self.held -= int(FORGOTTEN * self.held)


class ReplayCallback(BaseCallback):
    """Switches n-step targets on in time, and shrinks a `DynamicReplayBuffer` when it must.

    The algorithm's buffer must be an `NStepReplayBuffer` that begins with one step.

    Args:
        n_steps: Steps of the targets.
        n_steps_from: The first gradient step, counted from 1, that has them.
        threshold: The distance above which the buffer shrinks.
        least: It shrinks only while it holds more transitions than this.
        every: Environment steps between two looks at the distance.
    """

    def __init__(
        self,
        n_steps: int,
        n_steps_from: int = 0,
        threshold: float | None = None,
        least: int = 100_000,
        every: int = 10_000,
    ) -> None:
        super().__init__()
        self.n_steps = n_steps
        self.n_steps_from = n_steps_from
        self.threshold = threshold
        self.least = least
        self.every = every

    def _on_step(self) -> bool:
        model: Any = self.model
        buffer = model.replay_buffer
        if model._n_updates + 1 >= self.n_steps_from:
            buffer.n_steps = self.n_steps
        if isinstance(buffer, DynamicReplayBuffer) and self.threshold is not None:
            before = self.num_timesteps - model.n_envs
            if before >= model.learning_starts:
                buffer.next_mean = self._act(model._last_obs)
            if self.num_timesteps // self.every > before // self.every:
                self._look(buffer)
        return True

    def _look(self, buffer: DynamicReplayBuffer) -> None:
        model: Any = self.model
        count = max(1, BATCHES * model.batch_size // model.n_envs)
        normalise = model.get_vec_normalize_env()

        def act(observations: Any) -> NDArray[Any]:
            seen = normalise.normalize_obs(observations) if normalise else observations
            return self._act(seen)

        distance = buffer.distance(act, count)
        assert self.threshold is not None
        if distance > self.threshold and buffer.size() * model.n_envs > self.least:
            buffer.shrink()
        self.logger.record("replay/distance", distance)
        self.logger.record("replay/size", buffer.size() * model.n_envs)

    @torch.no_grad()
    def _act(self, observations: Any) -> NDArray[Any]:
        seen = obs_as_tensor(observations, self.model.device)
        policy: Any = self.model.policy
        actions: NDArray[Any] = policy._predict(seen, deterministic=True).cpu().numpy()
        return actions
