"""MinAtar's games (Young and Tian 2019), an extra because its licence is the GPL."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from sparse_core.checks import InputError
from sparse_core.imports import extra_of

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")


def minatar(game: str, render_mode: str | None = None, **settings: Any) -> gym.Env[Any, Any]:
    """Make a game with the actions that do something in it, MinAtar's `v1`.

    Args:
        game: One of `GAMES`.
        render_mode: `human`, `array`, `rgb_array`, or None.
        settings: MinAtar's `sticky_action_prob` and `difficulty_ramping`.

    Raises:
        InputError: If MinAtar is not installed.
    """
    try:
        from minatar.gym import BaseEnv
    except ModuleNotFoundError as error:
        raise InputError(f"env={game!r}: {error}{extra_of('minatar')}", field="env") from None
    env: gym.Env[Any, Any] = BaseEnv(
        game, render_mode=render_mode, use_minimal_action_set=True, **settings
    )
    return env
