"""On a GPU that is there: networks train on it as on the CPU, masked and condensed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.checks import InputError
from tests.sparse_core.devices import condensed_runs, masked_runs

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

MASKED = masked_runs.METHOD_RUNS | masked_runs.OTHER_RUNS


@pytest.mark.parametrize("name", [*MASKED])
@pytest.mark.filterwarnings("ignore")
def test_masked_training(name: str) -> None:
    assert masked_runs.outcome(MASKED[name], "cuda") is None


@pytest.mark.parametrize("name", [*condensed_runs.RUNS])
@pytest.mark.filterwarnings("ignore")
def test_condensed_training(name: str) -> None:
    pytest.importorskip("triton")
    assert condensed_runs.outcome(condensed_runs.RUNS[name], "cuda") is None


def _network(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 32)).cuda().to(dtype)
    sparsify(
        net,
        SparseConfig(
            method="static",
            sparsity=0.75,
            backend="condensed",
            group=16,
            structure="constant_fan_in",
        ),
    )
    return net


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_bfloat16_and_tf32_are_as_exact_as_they_can_be(precision: str) -> None:
    pytest.importorskip("triton")
    torch.set_float32_matmul_precision(precision)
    try:
        x = torch.randn(40, 64, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
        exact = _network(torch.float32).cpu()(x.cpu())
        wide = _network(torch.float32)(x).cpu()
        narrow = _network(torch.bfloat16)(x.bfloat16()).float().cpu()
    finally:
        torch.set_float32_matmul_precision("highest")
    relative = 1e-5 if precision == "highest" else 2e-3
    assert (wide - exact).norm() <= relative * exact.norm()
    assert (narrow - exact).norm() <= 2e-2 * exact.norm()


def test_equal_inputs_give_equal_results() -> None:
    pytest.importorskip("triton")
    net, x = _network(torch.float32), torch.randn(40, 64, device="cuda")
    found = []
    for _ in range(2):
        net.zero_grad()
        net(x).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in net.parameters()])
    assert all(map(torch.equal, *found))


def test_wrong_inputs_are_one_line() -> None:
    pytest.importorskip("triton")
    net = _network(torch.float32)
    with pytest.raises(InputError, match="its input is on cpu, its weights are on cuda:0"):
        net(torch.zeros(2, 64))
    net[2].cpu()
    with pytest.raises(InputError, match="its weights are on cpu, those before on cuda:0"):
        net(torch.zeros(2, 64, device="cuda"))
    net[2].cuda()
    net[0].cpu()
    with pytest.raises(InputError, match="its weights are on cuda:0, those before on the CPU"):
        net(torch.zeros(2, 64))
    net.cuda()
    with pytest.raises(InputError, match=r"float16, kernels for GPUs are for float32 and bfloat16"):
        net.half()(torch.zeros(2, 64, device="cuda").half())
