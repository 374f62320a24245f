"""Condensed networks train on a GPU as on the CPU: kernels, updates, conversions, checkpoints."""

from __future__ import annotations

import pytest

from tests.sparse_core.devices.programs import outcomes_of

pytest.importorskip("triton", reason="needs Triton: pip install 'dstrl[gpu]'")

PROGRAM = "tests.sparse_core.devices.condensed_runs"


def test_a_network_trains_where_its_weights_are() -> None:
    assert outcomes_of(PROGRAM, ["srigl, groups"]) == {"srigl, groups": None}


@pytest.mark.slow
def test_every_method_that_can_be_condensed_trains_where_its_weights_are() -> None:
    outcomes = outcomes_of(PROGRAM, [])
    assert len(outcomes) > 10
    assert outcomes == dict.fromkeys(outcomes)
