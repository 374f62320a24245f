"""One thread for every test, reproducible properties, and real data where it can be had."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

for variable in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
    os.environ.setdefault(f"{variable}_NUM_THREADS", "1")
os.environ.setdefault("SPARSE_CORE_COSTS", "shipped")  # backend="auto" chooses alike everywhere

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tests.own_modules import own_module  # noqa: E402

__all__ = ["own_module"]

SET_BY_OPTIONS = ("DST_DATA", "DST_TRACK", "DST_TRACKING")
ROOT = Path(__file__).resolve().parent.parent
UNPACK = ROOT.parent / "shared" / "data" / "unpack"

torch.set_num_threads(1)
if not torch.cuda.is_available():
    # Kernels for GPUs are interpreted. Triton must know when it is imported, by whomever.
    os.environ["TRITON_INTERPRET"] = "1"
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests the time that they take on a busy machine, with kernels to compile."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(autouse=True)
def _options_end_with_the_test() -> Iterator[None]:
    """Restore what a command line that a test reads sets for the whole process."""
    before = {name: os.environ.get(name) for name in SET_BY_OPTIONS}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _data(name: str, folder: str) -> Path:
    if "DST_DATA" in os.environ:
        place = Path(os.environ["DST_DATA"])
        if (place / folder).is_dir():
            return place
        pytest.skip(f"DST_DATA={place} has no {folder}")
    if not UNPACK.exists():
        pytest.skip(f"{name} is not at hand: set DST_DATA to a folder with {folder}")
    place = ROOT / "data"
    subprocess.run([sys.executable, str(UNPACK), str(place), name], check=True, capture_output=True)
    return place


@pytest.fixture(scope="session")
def mnist() -> Path:
    """A folder that holds `MNIST/raw`, or skip."""
    return _data("mnist", "MNIST/raw")


@pytest.fixture(scope="session")
def cifar10_jpeg() -> Path:
    """A folder that holds `cifar10-jpeg/train` and `test`, or skip."""
    return _data("cifar10", "cifar10-jpeg")


@pytest.fixture(scope="session")
def xmc() -> Path:
    """A folder that holds `xmc/bibtex_data.txt` and `xmc/delicious_data.txt`, or skip."""
    return _data("xmc", "xmc")
