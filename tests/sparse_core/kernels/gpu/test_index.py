"""A topology on its device says the same as the pattern of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels import Pattern
from sparse_core.kernels.format import GROUPS
from sparse_core.kernels.gpu.index import DeviceIndex
from sparse_core.kernels.gpu.support import check_offsets, why_not
from tests.sparse_core.kernels.patterns import Problem, problems


def _index_of(pattern: Pattern, spare: int) -> DeviceIndex:
    columns = np.concatenate([pattern.columns.astype(np.int32), np.full(spare, 7, np.int32)])
    return DeviceIndex.of(
        torch.from_numpy(columns),
        torch.from_numpy(pattern.lengths),
        pattern.in_features,
        pattern.out_features,
        pattern.group,
    )


@given(problems(GROUPS, st.just(1)))
def test_slots_by_group_and_by_column(problem: Problem) -> None:
    pattern, spare = problem.pattern, 3
    index = _index_of(pattern, spare)
    lengths = pattern.lengths
    assert index.indptr.diff().tolist() == lengths.tolist()
    owners = np.repeat(np.arange(lengths.size), lengths)
    assert index.owners.tolist() == [*owners.tolist(), *[-1] * spare]
    assert index.longest == lengths.max()
    by_column, lead = index.by_column, pattern.to_mask()[:: pattern.group]
    for column in range(pattern.in_features):
        begin, end = by_column.indptr[column : column + 2].tolist()
        assert by_column.owners[begin:end].tolist() == np.flatnonzero(lead[:, column]).tolist()
        for source in by_column.sources[begin:end].tolist():
            assert pattern.columns[source] == column


def test_what_kernels_are_not_for() -> None:
    assert why_not(torch.device("cpu"), torch.float32) == (
        "it is on cpu, condensed layers are for the CPU and for CUDA"
    )
    check_offsets(values=2**31 - 1)
    with pytest.raises(ValueError, match=r"^x has 2147483648 elements, kernels for GPUs count"):
        check_offsets(values=3, x=2**31)
    columns = torch.zeros(1, dtype=torch.int32).expand(2**30)
    with pytest.raises(ValueError, match="values has 4294967296 elements"):
        DeviceIndex.of(columns, torch.zeros(1, dtype=torch.int32), 5, 4, 4)


def test_float16_and_no_triton_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparse_core.kernels.gpu import support

    cuda = torch.device("cuda")
    monkeypatch.setattr(support, "has_triton", lambda: True)
    assert why_not(cuda, torch.bfloat16) is None
    assert why_not(cuda, torch.float16) == (
        "its dtype is torch.float16, kernels for GPUs are for float32 and bfloat16"
    )
    monkeypatch.setattr(support, "has_triton", lambda: False)
    assert why_not(cuda, torch.float32) == (
        "condensed layers on a GPU need Triton: pip install 'dstrl[gpu]'"
    )
