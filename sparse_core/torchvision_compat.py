"""torchvision, importable also where its compiled operators are not.

PyPI's torchvision wheel for Linux is built against CUDA; beside a CPU build of torch its operators
do not load, and `import torchvision` fails on the missing schemas of `torchvision::nms` and
`torchvision::qnms`. Nothing here uses these operators: declaring the schemas is enough. Where the
real import works, nothing is declared.
"""

from __future__ import annotations

import importlib
import sys
import warnings

import torch

OPERATORS = ("nms", "qnms")
_declared: list[torch.library.Library] = []  # a Library forgets its schemas when it is collected


def prepare_torchvision() -> None:
    """Let `import torchvision` work from here on; its warnings at import are not ours to show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _declare_operators()


def _declare_operators() -> None:
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in OPERATORS:
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
