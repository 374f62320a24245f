"""A trained sparse network as a dense ONNX graph, with zeros where weights are inactive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from sparse_core.checks import InputError
from sparse_core.export.copies import inference_copy
from sparse_core.layers.dense import become_dense
from sparse_core.layers.fused import allow_fused_encoders


def to_onnx(module: nn.Module, example: Tensor | Sequence[Tensor], path: str | Path) -> None:
    """Write a sparse network as an ordinary ONNX graph, with zeros where weights are inactive.

    The first dimension of each input, the batch, may have any size in the graph.

    Args:
        module: Any module with masked or condensed layers whose inputs are tensors.
        example: Its input, or inputs, with two samples or more.
        path: The file to write.

    Raises:
        ModuleNotFoundError: If the extra `onnx` is not installed.
        ValueError: If an example has no batch of two samples or more.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"to_onnx needs {' and '.join(missing)}: pip install 'dstrl[onnx]'", name=missing[0]
        )
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    for i, tensor in enumerate(inputs):
        if tensor.dim() == 0 or len(tensor) < 2:
            raise InputError(
                f"example {i} is {tuple(tensor.shape)}: needs a batch of two samples or more"
            )
    result = inference_copy(module)
    become_dense(result)
    allow_fused_encoders(result)
    result.requires_grad_(False)
    batch = torch.export.Dim("batch", min=1)
    with _unchecked_distributions():
        torch.onnx.export(
            result,
            inputs,
            str(path),
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Let distributions take their arguments as they are: a graph cannot look at numbers."""
    checked = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(checked)
