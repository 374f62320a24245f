"""A world that changes while an agent lives in it: what all such wrappers share.

    clock     steps taken in this world; episodes do not set it back, a seed does
    regime    what holds at present; in every `info["regime"]`, by the name of the wrapper
    stream    random numbers of the wrapper's own, from the seed: the environment's stay its own

What changes follows from the seed and the clock alone, or from `world` and the clock where that is
given: copies of an environment, of other seeds, then live in one world. It changes at the next
reset, or at once where `during_episodes` is asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding

from sparse_core.checks import InputError, whole


class Drifting(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Counts steps, and turns the world to what holds after so many.

    `reset(seed=...)` begins the world anew, at clock 0; `reset(options={"clock": n})` puts it to
    the time after n steps, as `set_clock` does for the next reset. Wrappers of this kind below one
    another follow the same clock.

    Args:
        env: Any environment.
        during_episodes: Change within episodes too, not only at resets.
        world: Seed of what changes; None: the seed given to `reset`.

    Attributes:
        clock: Steps taken since the seed, or since the environment was made.
    """

    def __init__(
        self, env: gym.Env[Any, Any], during_episodes: bool = False, world: int | None = None
    ) -> None:
        if not isinstance(during_episodes, bool):
            raise InputError(
                f"during_episodes={during_episodes!r}: must be true or false",
                field="during_episodes",
            )
        gym.Wrapper.__init__(self, env)
        self.during_episodes = during_episodes
        self.world = None if world is None else whole("world", world, 0)
        self._world = self.world
        self.clock = 0
        below = _below(self, type(self))
        self._key = f"{self.class_name()}{below + 1}" if below else self.class_name()
        self._stream = np.random.SeedSequence(0)
        self._anew = True

    @property
    def regime(self) -> Any:
        """What holds at present: numbers, or a mapping of them."""
        raise NotImplementedError

    def set_clock(self, clock: int) -> None:
        """Put this world, and those of the wrappers below, to the time after so many steps.

        It changes at the next reset, or the next step where it does so during episodes.
        """
        self.clock = whole("clock", clock, 0)
        if self.env.has_wrapper_attr("set_clock"):
            self.env.get_wrapper_attr("set_clock")(clock)

    def join_world(self, world: int) -> None:
        """Live in a world, unless one was given at construction; wrappers below do the same.

        It is there from the next reset on.
        """
        if self.world is None:
            self._world = whole("world", world, 0)
            self._anew = True
        if self.env.has_wrapper_attr("join_world"):
            self.env.get_wrapper_attr("join_world")(world)

    def jumping(self) -> frozenset[tuple[str, ...]]:
        """Return where in `info["regime"]` stands what changes at a stroke.

        Returns:
            Paths of keys, those of the wrappers below among them. All else drifts.
        """
        mine = frozenset((self._key, *path) for path in self._jumping())
        if not self.env.has_wrapper_attr("jumping"):
            return mine
        below: frozenset[tuple[str, ...]] = self.env.get_wrapper_attr("jumping")()
        return mine | below

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in the world as it then is; a seed begins the world anew."""
        if seed is not None:
            self.clock = 0
        if options is not None and "clock" in options:
            self.clock = whole("options.clock", options["clock"], 0)
        if seed is not None or self._anew:
            self._anew = False
            if seed is not None:
                seeding.np_random(seed)
            world = seed if self._world is None else self._world
            self._stream = stream_of(self, world, zlib.crc32(self.class_name().encode()))
            self._begin(np.random.default_rng(self._stream))
        self._turn()
        observation, info = self.env.reset(seed=seed, options=options)
        return self.observation(observation), self._told(info)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step; the observation and `info` are of the regime that then holds."""
        observation, reward, terminated, truncated, info = self.env.step(self.action(action))
        reward = self.reward(reward)
        self.clock += 1
        if self.during_episodes:
            self._turn()
        return self.observation(observation), reward, terminated, truncated, self._told(info)

    def observation(self, observation: Any) -> Any:
        """Return what the agent observes."""
        return observation

    def action(self, action: Any) -> Any:
        """Return what the environment is told to do."""
        return action

    def reward(self, reward: SupportsFloat) -> SupportsFloat:
        """Return what the agent earns."""
        return reward

    def _begin(self, rng: np.random.Generator) -> None:
        """Begin the world, whose chance comes from `rng`."""
        raise NotImplementedError

    def _turn(self) -> None:
        """Bring the world to `clock`, which may have been put back."""
        raise NotImplementedError

    def _jumping(self) -> Iterable[tuple[str, ...]]:
        """Return where in `regime` stands what changes at a stroke; `()` is all of it."""
        return ()

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "regime": {**told_below(info), self._key: self.regime}}


class Regimes(Drifting):
    """A world of regimes that hold for a number of steps each; each later one is drawn.

    Args:
        env: Any environment.
        every: Steps that a regime holds; None: the first one for ever.
        during_episodes: Change within episodes too, not only at resets.
        world: Seed of what changes; None: the seed given to `reset`.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        every: int | None = None,
        during_episodes: bool = False,
        world: int | None = None,
    ) -> None:
        super().__init__(env, during_episodes, world)
        self.every = None if every is None else whole("every", every, 1)
        self._regime = 0

    @property
    def regime(self) -> int:
        """How many changes there were."""
        return self._regime

    def _begin(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._regime = 0
        self._first()

    def _turn(self) -> None:
        wanted = 0 if self.every is None else self.clock // self.every
        if wanted < self._regime:
            self._begin(np.random.default_rng(self._stream))
        while self._regime < wanted:
            self._regime += 1
            self._next()

    def _jumping(self) -> Iterable[tuple[str, ...]]:
        return [()]

    def _first(self) -> None:
        """Bring in regime 0."""
        raise NotImplementedError

    def _next(self) -> None:
        """Bring in the regime after this one."""
        raise NotImplementedError

    def _another(self, order: tuple[int, ...]) -> tuple[int, ...]:
        """Draw an order that differs from this one."""
        drawn = order
        while drawn == order:
            drawn = tuple(self._rng.permutation(len(order)).tolist())
        return drawn


def told_below(info: dict[str, Any]) -> dict[str, Any]:
    """Return the regimes told so far; what an environment of its own calls so is `env`'s."""
    told = info.get("regime", {})
    return told if isinstance(told, dict) else {"env": told}


def stream_of(
    wrapper: gym.Wrapper[Any, Any, Any, Any], seed: int | None, key: int
) -> np.random.SeedSequence:
    """Return the random stream of a wrapper; the environment's own is not drawn from.

    Args:
        wrapper: Two of the same class around one environment get different streams.
        seed: As given to `reset`; None: the one that `np_random` was made from.
        key: Tells wrappers apart.

    Raises:
        gymnasium.error.Error: If it is no seed.
    """
    if seed is not None:
        seeding.np_random(seed)
    else:
        seed = wrapper.np_random_seed
    below = _below(wrapper, type(wrapper))
    if seed is None or seed < 0:  # a generator that somebody put there
        children: Any = wrapper.np_random.bit_generator.seed_seq
        seed = int(children.spawn(1)[0].generate_state(1)[0])
    return np.random.SeedSequence((seed, key, below) if below else (seed, key))


def _below(env: gym.Env[Any, Any], kind: type) -> int:
    return sum(type(wrapper) is kind for wrapper in _wrappers(env)) - 1


def _wrappers(env: gym.Env[Any, Any]) -> Iterator[gym.Wrapper[Any, Any, Any, Any]]:
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
