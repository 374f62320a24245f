"""A linear layer with a torch CSR weight, for inference with torch's own kernels."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from sparse_core.layers.kinds import become
from sparse_core.layers.rows import Rows
from sparse_core.layers.state import Condensed


class CsrLinear(nn.Linear):
    """`nn.Linear` whose weight is a `torch.sparse_csr` matrix.

    CSR tensors cannot be copied or pickled, so the layer holds what they are made of:

        values   (nnz,)      the active weights, row after row
        columns  (nnz,)      int32
        indptr   (out + 1,)  int32, or int64 from 2^31 weights on; where rows begin
    """

    values: Tensor
    columns: Tensor
    indptr: Tensor

    def matrix(self) -> Tensor:
        """Return the weight, `(out, in)` sparse CSR."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            return torch.sparse_csr_tensor(
                self.indptr,
                self.columns,
                self.values,
                (self.out_features, self.in_features),
                check_invariants=False,
            )

    def forward(self, input: Tensor) -> Tensor:
        """Map `(..., in)` to `(..., out)`."""
        rows = input.reshape(-1, self.in_features)
        out = (self.matrix() @ rows.t()).t()
        if self.bias is not None:
            out = out + self.bias
        return out.reshape(*input.shape[:-1], self.out_features)


def become_csr(layer: nn.Linear, rows: Rows) -> None:
    """Turn a dense or condensed linear layer into one with a CSR weight, in place."""
    bias = layer._parameters["bias"]
    if isinstance(layer, Condensed):
        layer.forget_pattern()
    for name in ("weight", "bias"):
        layer._parameters.pop(name, None)
    become(layer, CsrLinear)
    index = torch.int32 if rows.columns.size < 2**31 else torch.int64
    layer.register_buffer("values", torch.from_numpy(rows.values.copy()))
    layer.register_buffer("columns", torch.from_numpy(rows.columns).to(index))
    layer.register_buffer("indptr", torch.from_numpy(rows.indptr).to(index))
    layer.register_parameter("bias", bias)
