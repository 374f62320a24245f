"""A pytest plugin: Stable-Baselines3's own tests get sparse policies instead of its own.

Every name a test passes to an algorithm (`"MlpPolicy"`, ...) stands for our policy. The settings
are in `DSTRL_SB3_SPARSE` as JSON; `null` leaves Stable-Baselines3 as it is, for comparison.
"""

from __future__ import annotations

import json
import os

import pytest

NAMES = {
    "MlpPolicy": "SparseMlpPolicy",
    "CnnPolicy": "SparseCnnPolicy",
    "MultiInputPolicy": "SparseMultiInputPolicy",
}

THRESHOLD = "demands a return or a value that a dense network reaches in a few hundred steps"

LEFT_OUT = {
    "test_save_load_large_model": "needs 17 GB of memory, dense too",
}
"""Part of a test's id -> why it is not run."""

MAY_FAIL = {
    "test_ppo_warnings": "advice against GPUs is for the class named ActorCriticPolicy only",
    "test_performance_her": THRESHOLD,
    "test_infinite_horizon[True-SAC]": THRESHOLD,
}
"""Part of a test's id -> why it may fail sparse although it passes dense."""


def chosen() -> dict[str, object] | None:
    """Return the settings to test with."""
    settings: dict[str, object] | None = json.loads(os.environ.get("DSTRL_SB3_SPARSE", "{}"))
    return settings


def pytest_configure(config: pytest.Config) -> None:
    """Swap the policies in."""
    settings = chosen()
    if settings is None:
        return
    import dstrl
    from dstrl.mixin import Settings
    from dstrl.policies import POLICIES

    dstrl.register()
    for algorithm in POLICIES:
        for name, ours in NAMES.items():
            algorithm.policy_aliases[name] = algorithm.policy_aliases[ours]
    read = Settings.read
    Settings.read = lambda sparse: read(settings if sparse is None else sparse)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that are listed above."""
    for item in items:
        for part, reason in LEFT_OUT.items():
            if part in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=reason))
        for part, reason in MAY_FAIL.items() if chosen() else ():
            if part in item.nodeid:
                item.add_marker(pytest.mark.xfail(reason=reason, strict=False))
