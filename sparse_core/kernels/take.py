"""Copying values into another order, such as that of the transposed matrix.

A copy of a training step's weights is a tenth of the product that needs it, so it is compiled:
places are known to be in range and not negative, which NumPy and Numba's own indexing would ask
about each of them.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange
from numba.core import types
from numpy.typing import NDArray

from sparse_core.kernels.buffers import empty
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.simd import at, const, intrinsic, loop, widen
from sparse_core.kernels.threads import team

_SEVERAL = 1 << 19  # numbers, taken one by one, that are worth several threads
_UNROLL = 8


def taker(
    source: NDArray[Any], threads: int
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the function that takes values[source] of values.

    Args:
        source: (n,) int32 or int64, places in values; they are not checked.
        threads: Threads to use.

    Returns:
        A function of flat float32 values, whose result is (n,) float32.
    """
    threads = threads if source.size >= _SEVERAL else 1
    run, size = take_kernel(source.dtype.name, threads > 1), source.size

    def take(values: NDArray[np.float32]) -> NDArray[np.float32]:
        out = empty(size)
        with team(threads):
            run(values, source, out, threads)
        return out

    return take


def copier(
    source: NDArray[Any], threads: int
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]] | None:
    """Return the function that takes values[source] for each thread, by that thread.

    Each writes and later reads a copy of its own: to read what another core has written costs more
    than to take it again.

    Args:
        source: (n,) int32 or int64, places in values; they are not checked.
        threads: Threads to use.

    Returns:
        A function of flat float32 values, whose result is (threads, n) float32; None where one
        copy had better serve all.
    """
    if threads == 1 or source.size >= _SEVERAL:
        return None
    run, size = copy_kernel(source.dtype.name), source.size

    def copy(values: NDArray[np.float32]) -> NDArray[np.float32]:
        out = empty(threads, size)
        with team(threads):
            run(values, source, out)
        return out

    return copy


@intrinsic
def take_scalars(typing_context: Any, values: Any, source: Any, n: Any, out: Any) -> Any:
    """out[i] = values[source[i]] for i below n."""
    signature = types.void(values, source, types.intp, out)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, source, n, out = arguments

        def taken(i: Any) -> Any:
            place = widen(builder, builder.load(builder.gep(source, [i])))
            return builder.load(builder.gep(values, [place]))

        whole = builder.and_(n, const(-_UNROLL))
        with loop(builder, const(0), whole, _UNROLL) as i:
            places = [builder.add(i, const(u)) for u in range(_UNROLL)]
            for place, number in [(place, taken(place)) for place in places]:
                builder.store(number, builder.gep(out, [place]))
        with loop(builder, whole, n) as i:
            builder.store(taken(i), builder.gep(out, [i]))
        return context.get_dummy_value()

    return signature, codegen


@once
def take_kernel(index: str, parallel: bool) -> Any:
    """Return the kernel of `taker`: (values, source, out, chunks)."""

    @kernel(f"void(float32[::1], {index}[::1], float32[::1], int64)", parallel=parallel)
    def take_chunks(values, source, out, chunks):
        for chunk in prange(chunks):
            first = source.size * chunk // chunks
            n = source.size * (chunk + 1) // chunks - first
            take_scalars(at(values, 0), at(source, first), n, at(out, first))

    return take_chunks


@once
def copy_kernel(index: str) -> Any:
    """Return the kernel of `copier`: (values, source, out (threads, n))."""

    @kernel(f"void(float32[::1], {index}[::1], float32[:, ::1])", parallel=True)
    def take_copies(values, source, out):
        flat = out.reshape(-1)
        for worker in prange(out.shape[0]):
            begin = at(flat, worker * source.size)
            take_scalars(at(values, 0), at(source, 0), source.size, begin)

    return take_copies
