"""Programs that need a process of their own, since they make a device for the whole of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.sparse_core.devices import away


def outcomes_of(program: str, names: list[str]) -> dict[str, str | None]:
    """Run a program of this package; return why each of its runs failed, None if it did not."""
    if not away.possible():
        pytest.skip("this version of torch has no devices written in Python")
    command = [sys.executable, "-m", program, *names]
    # A process has one kind of device; there Triton interprets kernels.
    alone = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(done.stdout)
    return found
