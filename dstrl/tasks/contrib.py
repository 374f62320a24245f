"""Policies for tasks in sequence of sb3-contrib's algorithms."""

from __future__ import annotations

from dstrl.policies.contrib import SparseQRDQNPolicy, SparseTQCPolicy
from dstrl.tasks.mixin import ContinualPolicy


class ContinualTQCPolicy(ContinualPolicy, SparseTQCPolicy):
    """TQC's policy for tasks in sequence."""


class ContinualQRDQNPolicy(ContinualPolicy, SparseQRDQNPolicy):
    """QR-DQN's policy for tasks in sequence."""
