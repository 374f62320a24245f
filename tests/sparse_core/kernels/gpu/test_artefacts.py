"""The kernels compile for GPUs that are not there, without atomics, and on tensor cores."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="needs Triton: pip install 'dstrl[gpu]'")

PROGRAM = """
import json, sys
from sparse_core.kernels.gpu.artefacts import compiled
groups = tuple(map(int, sys.argv[2:]))
print(json.dumps([vars(a) | {"cubin": len(a.cubin)} for a in compiled(int(sys.argv[1]), groups)]))
"""


def _compiled(architecture: int, *groups: int) -> list[dict[str, object]]:
    plain = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(architecture), *map(str, groups)],
        capture_output=True,
        text=True,
        env=plain | {"TRITON_DEFAULT_FP_FUSION": "1"},
    )
    assert done.returncode == 0, done.stderr
    made: list[dict[str, object]] = json.loads(done.stdout)
    return made


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("architecture", [70, 80, 90])
def test_every_kernel_compiles(architecture: int) -> None:
    made = _compiled(architecture, 1, 4, 8, 16, 32)
    kernels = {artefact["kernel"] for artefact in made}
    assert kernels == {
        "products", "tile_products", "input_gradients", "value_gradients", "tile_gradients",
        "through_activation", "turn", "look_up", "look_up_gradients",
    }  # fmt: skip
    for artefact in made:
        ptx = str(artefact["ptx"])
        assert artefact["cubin"] and 0 < int(str(artefact["registers"])) <= 255
        assert int(str(artefact["spilled"])) == 0 and int(str(artefact["shared"])) <= 96 * 1024
        assert f".target sm_{architecture}" in ptx
        assert re.search(r"(?<![\w.])(atom|red)\.", ptx) is None
        on_tensor_cores = "mma" in ptx
        fit = str(artefact["kernel"]).startswith("tile") and (
            str(artefact["variant"]).endswith(("tf32", "bf16"))
        )
        assert on_tensor_cores == fit, artefact["variant"]
