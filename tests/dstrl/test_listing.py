"""What `dst list` shows of presets and environments: all that can be named, without torch."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from dstrl.listing import described
from dstrl.runs.presets import PRESETS
from envs.sequences import SEQUENCES
from envs.wrappers import WRAPPERS
from sparse_core.checks import InputError

ROOT = Path(__file__).parents[2]


def names(kind):
    return [entry.name for entry in described(kind)]


def test_all_presets_are_there_with_their_paper_and_algorithms():
    assert names("presets") == list(PRESETS)
    rlx2 = next(entry for entry in described("presets") if entry.name == "rlx2")
    assert rlx2.summary.startswith("td3, sac: Tan et al. 2023") and "https" not in rlx2.summary


def test_all_of_envs_is_there_and_what_is_tuned():
    found = names("envs")
    wanted = {"ChangedCartPole-v0", "CartPole-v1", "HalfCheetah", *SEQUENCES}
    assert wanted | set(WRAPPERS) <= set(found)
    assert len(set(found)) == len(found)
    by_name = {entry.name: entry for entry in described("envs")}
    assert by_name["CartPole-v1"].summary == "hyper-parameters tuned for ppo, a2c, dqn"
    said = "sequence: 3 tasks of CartPole-v1 with their own length, masspole, gravity, force_mag"
    assert by_name["cartpole-physics"].summary == said
    several = "sequence: 3 tasks of CartPole-v1, Acrobot-v1, MountainCar-v0"
    assert by_name["classic-control"].summary == several
    assert by_name["cartpole-twice"].summary.endswith("permutation, each learnt twice")
    assert by_name["NoisyFeatures"].source == "envs.noise:NoisyFeatures"


@pytest.mark.parametrize("kind", ["presets", "envs"])
def test_every_entry_is_a_line_with_a_source_that_exists(kind):
    for entry in described(kind):
        assert entry.name and entry.summary and "\n" not in entry.summary
        module, colon, name = entry.source.partition(":")
        if colon:
            assert hasattr(importlib.import_module(module), name)
        else:
            assert entry.source == "gymnasium" or (ROOT / entry.source).is_file()


def test_another_kind_is_refused():
    said = r"^kind='worlds': must be one of presets, envs, baselines$"
    with pytest.raises(InputError, match=said):
        described("worlds")


def test_listing_costs_no_torch():
    code = "import sys; from dstrl.listing import described as d; d('envs'), d('presets')"
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"])
    assert done.returncode == 0
