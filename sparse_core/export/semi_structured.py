"""2:4 weights as torch's semi-structured tensors, which the tensor cores of recent GPUs multiply.

For inference: half precision, and shapes that fill the hardware's tiles. A layer that is too small
or is not 2:4 is refused by name. Whether it is faster than dense depends on the shape: torch's own
figures for small batches are below one (pytorch/pytorch#111339), `dst bench gpu` measures it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from sparse_core.checks import InputError
from sparse_core.export.copies import inference_copy
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.condensed_attention import called_linears
from sparse_core.layers.dense import become_dense
from sparse_core.layers.linear import MaskedLinear
from sparse_core.layers.masked import Masked
from sparse_core.layers.state import Condensed

DTYPES = (torch.float16, torch.bfloat16)

LEAST_ROWS, LEAST_COLUMNS = 32, 64
"""Numbers of which a half-precision weight's rows and columns must be multiples, says torch."""


def to_semi_structured(
    module: nn.Module,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cuda",
    *,
    dense_if_unfit: bool = False,
) -> nn.Module:
    """Return a copy of a network for inference whose sparse linear layers have 2:4 weights.

    Sparse layers of other types become dense ones with zeros.

    Args:
        module: A network with linear layers of structure 2:4, masked or condensed.
        dtype: Of the copy: `torch.float16` or `torch.bfloat16`.
        device: Where the copy is: a GPU, on which alone torch makes and multiplies such weights.
        dense_if_unfit: Whether sparse linear layers that cannot be 2:4 become dense ones with
            zeros; they are refused otherwise.

    Raises:
        ValueError: If a layer is refused: all are named in one line, with the reasons; or the
            dtype or device cannot have such weights.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype}: 2:4 weights are {DTYPES[0]} or {DTYPES[1]}", "dtype")
    if torch.device(device).type != "cuda":
        raise InputError(f"device={device!r}: torch makes 2:4 weights on CUDA only", "device")
    result = inference_copy(module)
    names = {child: name for name, child in result.named_modules()}
    fit, refused = [], []
    for kind in (MaskedLinear, CondensedLinear):
        for layer in called_linears(result, kind):
            become_dense(layer)
            reason = why_unfit(layer.weight)
            if reason is None:
                fit.append(layer)
            else:
                refused.append(f"{names[layer]!r} ({reason})")
    if refused and not dense_if_unfit:
        raise InputError(
            f"2:4 export: cannot have layer {', '.join(refused)}; dense_if_unfit=True leaves dense "
            "what does not fit"
        )
    if not fit:
        raise InputError("2:4 export: no sparse linear layer has a 2:4 weight that fits")
    become_dense(result, Masked)
    become_dense(result, Condensed)
    result.to(device=torch.device(device), dtype=dtype)
    for layer in fit:
        packed = to_sparse_semi_structured(layer.weight.detach())
        layer.weight = nn.Parameter(packed, requires_grad=False)
    return result.requires_grad_(False)


def why_unfit(weight: Tensor) -> str | None:
    """Return why an `(out, in)` weight cannot be a semi-structured tensor, or None if it can."""
    rows, columns = weight.shape
    if rows % LEAST_ROWS or columns % LEAST_COLUMNS:
        return (
            f"{rows} x {columns}: rows must be a multiple of {LEAST_ROWS}, columns of "
            f"{LEAST_COLUMNS}"
        )
    most = int((weight.reshape(rows, -1, 4) != 0).sum(2).max())
    return f"{most} of 4 consecutive weights are active, 2 may be" if most > 2 else None
