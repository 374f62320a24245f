"""Every policy can be imported from `dstrl`, and none is before it is asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from torch import nn

import dstrl
from dstrl.policies.mixin import SparsePolicy

CONTRIB = ("dstrl.policies.contrib", "dstrl.tasks.contrib")
MODULES = (
    "dstrl.policies.actor_value",
    "dstrl.policies.actor_critics",
    "dstrl.policies.q_network",
    "dstrl.tasks.mixin",
    "dstrl.tasks.policies",
    *CONTRIB,
)


def policies_of(module):
    """The policies that an algorithm can be given, by name; the others only have them in common."""
    home = importlib.import_module(module)
    return {
        name: kind
        for name, kind in vars(home).items()
        if isinstance(kind, type)
        and issubclass(kind, SparsePolicy)
        and kind.__module__ == module
        and (name == "ContinualPolicy" or issubclass(kind, nn.Module))
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_policy_is_there_by_its_own_name(module):
    if module in CONTRIB:
        pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")
    found = policies_of(module)
    assert len(found) >= (1 if module == "dstrl.tasks.mixin" else 2)
    for name, kind in found.items():
        assert getattr(dstrl, name) is kind
        assert name in dir(dstrl)
        assert (name in dstrl.__all__) == (module not in CONTRIB), name


def test_nothing_else_is_promised():
    for name in dstrl.__all__:
        assert getattr(dstrl, name).__module__.startswith("dstrl."), name
    with pytest.raises(AttributeError, match=r"^module 'dstrl' has no attribute 'SparseARSPolicy'"):
        dstrl.SparseARSPolicy  # noqa: B018


def test_importing_costs_no_torch():
    code = "import sys, dstrl; dir(dstrl); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_where_sb3_contrib_is_missing_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(dstrl, "find_spec", lambda name: None)
    message = r"^SparseTQCPolicy needs sb3-contrib: pip install 'dstrl\[contrib\]'$"
    with pytest.raises(ModuleNotFoundError, match=message):
        dstrl.SparseTQCPolicy  # noqa: B018
    assert dstrl.SparseDQNPolicy.__name__ == "SparseDQNPolicy"
