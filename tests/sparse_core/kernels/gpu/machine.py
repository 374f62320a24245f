"""Where the tests of kernels for GPUs run: on a GPU if there is one, else in Triton's interpreter.

`tests/conftest.py` tells Triton which, before it is imported.
"""

from __future__ import annotations

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

pytest.importorskip("triton", reason="needs Triton: pip install 'dstrl[gpu]'")
