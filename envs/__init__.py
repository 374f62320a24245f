"""Worlds that are harder than they look: wrappers for Gymnasium environments."""

from __future__ import annotations

from envs.wrappers import NoisyFeatures

__all__ = ["NoisyFeatures"]
