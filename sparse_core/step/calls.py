"""A call of a kernel whose arguments lie in a table, to be made from machine code.

The table holds the addresses of the kernel and of a small function that calls kernels of its
signature, then the arguments: addresses and lengths of arrays, and numbers. That function is
compiled once for a signature, of which there are few, and not for a kernel or its constants.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.np import arrayobj as untyped_arrayobj
from numpy.typing import NDArray

from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.simd import I32, I64, cgutils, const, intrinsic, types

arrayobj: Any = untyped_arrayobj

_CALLER, _CALLED, _ARGUMENTS = range(3)  # entries of a table
_PACKED = {"float32": "<fxxxx", "float64": "<d", "int64": "<q"}


class Call:
    """One call of a kernel, with arguments that are read where they lie.

    Args:
        function: The kernel, not a parallel one.
        arguments: Of the types of its signature. They are kept alive.

    Attributes:
        address: Where its table lies.

    Raises:
        TypeError: If an argument is of another type, or not contiguous.
    """

    def __init__(self, function: Any, arguments: Sequence[Any]) -> None:
        head, self._takes = _facts(function)
        self._table: NDArray[np.int64] = np.array([*head, *self._entries(arguments)], np.int64)
        self.address: int = self._table.__array_interface__["data"][0]
        self._held = function, arguments

    def take(self, *arguments: Any) -> None:
        """Take other arguments from now on."""
        self._table[_ARGUMENTS:] = self._entries(arguments)
        self._held = self._held[0], arguments

    def _entries(self, arguments: Sequence[Any]) -> list[int]:
        takes = self._takes
        if len(arguments) != len(takes):
            raise TypeError(f"a kernel takes {len(takes)} arguments, got {len(arguments)}")
        found: list[int] = []
        for (dtype, dimensions, packed), argument in zip(takes, arguments, strict=True):
            if not dimensions:
                found += struct.unpack("<q", struct.pack(packed, argument))
                continue
            if (
                argument.dtype != dtype
                or argument.ndim != dimensions
                or not argument.flags.c_contiguous
            ):
                kind = f"{dtype}:{dimensions}"
                raise TypeError(f"a kernel takes {kind}, got {argument.dtype} {argument.shape}")
            found.append(argument.__array_interface__["data"][0])
            found += argument.shape
        return found


@functools.cache
def _facts(function: Any) -> tuple[list[int], list[tuple[np.dtype[Any], int, str]]]:
    """Return the first entries of a kernel's tables; its arguments' types, dimensions and codes."""
    (compiled,) = function.overloads.values()
    kinds = _kinds(compiled.signature.args)
    takes = []
    for kind in kinds:
        name, dimensions = kind.split(":")
        takes.append((np.dtype(name), int(dimensions), _PACKED.get(name, "")))
    return [_address_of(_caller(",".join(kinds))), _address_of(function)], takes


def _address_of(function: Any) -> int:
    """Return where the machine code of a kernel lies."""
    (compiled,) = function.overloads.values()
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


def _kinds(arguments: Sequence[Any]) -> list[str]:
    """Return the types of a kernel's arguments in short, such as `float32:2` for a matrix."""
    return [
        f"{each.dtype}:{each.ndim}" if isinstance(each, types.Array) else f"{each}:0"
        for each in arguments
    ]


def _types_of(kinds: str) -> list[Any]:
    """Return the types that `_kinds` names."""
    found = []
    for kind in kinds.split(","):
        name, dimensions = kind.split(":")
        number = getattr(types, name)
        found.append(types.Array(number, int(dimensions), "C") if dimensions != "0" else number)
    return found


@once
def _caller(kinds: str) -> Any:
    """Return the function that calls kernels of a signature, of the address of a table."""

    @kernel("void(int64)")
    def call(table):
        call_with_table(kinds, table)

    return call


@intrinsic
def call_with_table(typing_context: Any, KINDS: Any, table: Any) -> Any:
    """Call the kernel of a table with its arguments."""
    kinds = _types_of(KINDS.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table = builder.inttoptr(arguments[1], I64.as_pointer())
        place = iter(range(_ARGUMENTS, 1 << 16))

        def following() -> Any:
            return builder.load(builder.gep(table, [const(next(place))]))

        taken = [_taken(context, builder, kind, following) for kind in kinds]
        _call(context, builder, builder.load(builder.gep(table, [const(_CALLED)])), kinds, taken)
        return context.get_dummy_value()

    return types.void(KINDS, table), codegen


@intrinsic
def call_table(typing_context: Any, table: Any) -> Any:
    """Make the call of a table, whatever its signature is."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table = builder.inttoptr(arguments[0], I64.as_pointer())
        caller = builder.load(builder.gep(table, [const(_CALLER)]))
        _call(context, builder, caller, [types.int64], arguments)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _taken(context: Any, builder: Any, kind: Any, following: Any) -> Any:
    """Return an argument of a type, made of the entries that follow."""
    if not isinstance(kind, types.Array):
        entry = following()
        if kind is types.float32:
            return builder.bitcast(builder.trunc(entry, I32), ir.FloatType())
        return builder.bitcast(entry, ir.DoubleType()) if kind is types.float64 else entry
    data, shape = following(), [following() for _ in range(kind.ndim)]
    number = context.get_data_type(kind.dtype)
    size = const(context.get_abi_sizeof(number))
    strides = [size]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    array = context.make_array(kind)(context, builder)
    arrayobj.populate_array(
        array,
        data=builder.inttoptr(data, number.as_pointer()),
        shape=shape,
        strides=strides,
        itemsize=size,
        meminfo=None,
    )
    return array._getvalue()


def _call(context: Any, builder: Any, address: Any, kinds: Any, arguments: Any) -> None:
    """Call the function at an address by Numba's convention, and pass on what it raises."""
    convention = context.call_conv
    kind = convention.get_function_type(types.none, kinds)
    function = builder.inttoptr(address, kind.as_pointer())
    status, _ = convention.call_function(builder, function, types.none, kinds, arguments)
    with cgutils.if_unlikely(builder, status.is_error):
        convention.return_status_propagate(builder, status)
