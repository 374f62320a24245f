"""What `dst list presets` shows of supervised runs: all that can be named, with its paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparse_core.checks import InputError
from supervised.listing import PRESETS, described
from supervised.rec import presets as rec
from supervised.vision import presets as vision
from sweeps.commands import listing

ROOT = Path(__file__).parents[2]


def test_all_presets_are_there_each_with_the_file_that_holds_it():
    assert list(PRESETS["rec"]) == list(rec.PRESETS)
    assert list(PRESETS["vision"]) == list(vision.PRESETS)
    for entry in described("presets"):
        assert (ROOT / entry.source).exists() and entry.name in (ROOT / entry.source).read_text()


def test_presets_of_all_kinds_are_one_list():
    found = listing.described("presets")
    assert {"rlx2", "dsl", "sparserec"} <= {entry.name for entry in found}
    assert [e.summary.partition(":")[0] for e in found if e.name == "dsl"] == ["rec"]


def test_another_listing_is_refused():
    with pytest.raises(InputError, match=r"^kind='envs': must be one of presets$"):
        described("envs")
