"""2:4 export: what fits the hardware's tiles is packed, the rest is refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.checks import InputError
from sparse_core.export import semi_structured
from sparse_core.export.semi_structured import to_semi_structured, why_unfit


def _network(backend: str = "masked") -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 128), nn.Linear(128, 5))
    config = SparseConfig(method="static", structure="2:4", sparsity=0.5, backend=backend)
    sparsify(net, config)
    return net


def test_what_fits() -> None:
    two = torch.tensor([1.0, 0, 2, 0]).repeat(32, 16)
    assert why_unfit(two) is None
    assert why_unfit(two[:31]) == "31 x 64: rows must be a multiple of 32, columns of 64"
    two[3, 1] = 1
    assert why_unfit(two) == "3 of 4 consecutive weights are active, 2 may be"


def test_layers_that_do_not_fit_are_named() -> None:
    message = (
        r"^2:4 export: cannot have layer '2' \(128 x 96: rows must be a multiple of 32, columns of "
        r"64\), '3' \(5 x 128: .*\); dense_if_unfit=True leaves dense what does not fit$"
    )
    with pytest.raises(InputError, match=message):
        to_semi_structured(_network())
    small = nn.Sequential(nn.Linear(8, 8))
    sparsify(small, SparseConfig(method="static", structure="2:4", sparsity=0.5))
    with pytest.raises(InputError, match="no sparse linear layer has a 2:4 weight that fits"):
        to_semi_structured(small, dense_if_unfit=True)


def test_only_half_precision_on_a_gpu() -> None:
    with pytest.raises(InputError, match=r"^dtype=torch.float32: 2:4 weights are torch.float16"):
        to_semi_structured(_network(), torch.float32)
    with pytest.raises(InputError, match=r"^device='cpu': torch makes 2:4 weights on CUDA only"):
        to_semi_structured(_network(), device="cpu")


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_layers_that_fit_are_packed(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[torch.Size] = []

    def pack(weight: torch.Tensor) -> torch.Tensor:
        assert weight.dtype == torch.bfloat16
        packed.append(weight.shape)
        return weight

    if not torch.cuda.is_available():
        monkeypatch.setattr(semi_structured, "to_sparse_semi_structured", pack)
        moved = nn.Module.to
        monkeypatch.setattr(nn.Module, "to", lambda m, device, dtype: moved(m, dtype=dtype))
    net = _network(backend)
    small = to_semi_structured(net, dense_if_unfit=True)
    x = torch.randn(3, 64)
    expected = net(x)
    weight = next(small.parameters())
    out = small(x.to(weight.device).bfloat16()).float().cpu()
    assert (out - expected).norm() < 0.02 * expected.norm()
    if not torch.cuda.is_available():
        assert packed == [(96, 64)]
    assert all(type(layer) is nn.Linear for layer in small if not isinstance(layer, nn.ReLU))
