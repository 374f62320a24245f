"""Memory is used again only when nobody holds it."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels import buffers
from sparse_core.kernels.buffers import empty


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    buffers._kept.clear()


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


@given(st.integers(1, 3 * buffers._SMALL), st.integers(1, 3))
def test_shape_and_alignment(size: int, height: int) -> None:
    array = empty(height, size)
    assert array.shape == (height, size) and array.dtype == np.float32 and array.flags.carray
    if height * size >= buffers._SMALL:
        assert address(array) % 64 == 0


def test_what_is_dropped_is_taken_again() -> None:
    first = empty(100, 100)
    where = address(first)
    del first
    assert address(empty(100 * 100)) == where


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array,
        lambda array: array[3:5, ::2],
        lambda array: array.reshape(-1).T[None],
        lambda array: memoryview(array),
        lambda array: torch.from_numpy(array),
        lambda array: torch.from_numpy(array).view(-1)[7:9].detach(),
        lambda array: torch.from_numpy(array).requires_grad_().sigmoid().sum().grad_fn,
        lambda array: torch.from_numpy(array).untyped_storage(),
    ],
)
def test_what_is_held_in_any_form_is_left_alone(hold: object) -> None:
    array = empty(100, 100)
    where = address(array)
    held = hold(array)  # type: ignore[operator]
    del array
    others = [empty(100, 100) for _ in range(3)]
    assert where not in {address(other) for other in others}
    del held


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=60))
def test_no_two_arrays_share_memory(plan: list[tuple[int, bool]]) -> None:
    held: list[np.ndarray] = []
    for size, drop in plan:
        held.append(empty(size, buffers._SMALL))
        held[-1][:] = len(held)
        if drop:
            held.pop(0)
    spans = sorted((address(a), address(a) + a.nbytes) for a in held)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_what_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "MOST", 10 * 4 * buffers._SMALL)
    for size in range(1, 30):
        held = [empty(size, buffers._SMALL) for _ in range(3)]
        kept = [e[0].nbytes for entries in buffers._kept.by_size.values() for e in entries]
        assert sum(kept) == buffers._kept.bytes <= buffers.MOST
        del held


def test_arrays_of_one_size_have_a_limit() -> None:
    held = [empty(buffers._SMALL) for _ in range(3 * buffers.MOST_ALIKE + 1)]
    kept = buffers._kept.by_size[buffers._SMALL]
    assert len(kept) <= buffers.MOST_ALIKE
    assert buffers._kept.bytes == sum(memory.nbytes for memory, _ in kept)
    assert len({address(array) for array in held}) == len(held)


def test_threads_keep_their_own() -> None:
    first = empty(buffers._SMALL)
    where = address(first)
    del first
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(address(empty(buffers._SMALL))))
    thread.start()
    thread.join()
    assert seen and seen[0] != where and address(empty(buffers._SMALL)) == where


def test_nothing_is_kept_where_references_cannot_be_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buffers, "_counts_references", lambda: False)
    empty(buffers._SMALL)
    assert not buffers._kept.by_size
