"""The kernels compiled for GPUs that are not there: PTX, machine code, registers, shared memory.

Triton needs no GPU to compile for one, and brings the assembler that counts registers. Where Triton
interprets (`TRITON_INTERPRET=1`) nothing can be compiled: use a process of its own.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparse_core.kernels.gpu import backward, forward, lookups, turning
from sparse_core.kernels.gpu.tuning import sizes_for

ARCHITECTURES = (70, 80, 90)
"""Compute capabilities: V100, A100, H100."""

GROUPS = (1, 4, 8, 16, 32)
BATCH = 256

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
_FLOATS = {"values", "x", "bias", "y", "z", "dy", "dx", "dvalues", "out", "source"}
_FLOATS |= {"signal", "seen", "sums"}
_INDICES = ("columns", "indptr", "owners", "sources", "order", "bounds")


@dataclass(frozen=True)
class Artefact:
    """A kernel compiled for one architecture.

    Attributes:
        kernel: Its name.
        variant: Group and number format.
        architecture: Compute capability, such as 80.
        ptx: Its text.
        cubin: Its machine code.
        registers: Registers a thread.
        spilled: Bytes of registers that a thread stores to memory for want of room.
        shared: Bytes of shared memory a block.
        warps: Warps a block.
    """

    kernel: str
    variant: str
    architecture: int
    ptx: str
    cubin: bytes
    registers: int
    spilled: int
    shared: int
    warps: int


@dataclass(frozen=True)
class _Variant:
    name: str
    kernel: Any
    dtype: torch.dtype
    constants: dict[str, Any]
    warps: int


def compiled(architecture: int, groups: tuple[int, ...] = GROUPS) -> Iterator[Artefact]:
    """Compile all kernels for an architecture.

    Args:
        architecture: Compute capability, such as 80.
        groups: Rows that share their columns.

    Yields:
        Each kernel for each group, in float32, TF32 where tensor cores multiply, and bfloat16 from
        compute capability 80 on, which has it.
    """
    for variant in _variants(groups):
        if architecture >= 80 or (
            variant.dtype == torch.float32 and variant.constants.get("PRECISION") != "tf32"
        ):
            yield _compile(variant, architecture)


def _variants(groups: tuple[int, ...]) -> Iterator[_Variant]:
    fused = {"ACTIVATION": 1, "HAS_BIAS": True, "KEEP": False}
    for dtype, short in _NAMES.items():
        for group in groups:
            name, own = f"{group} {short}", {"GROUP": group}
            if group <= 8:
                yield _variant(name, forward.products, dtype, group, own | fused)
                yield _variant(name, backward.value_gradients, dtype, group, own)
            if group >= 8:
                members = own | {"MEMBERS": max(16, group)}
                for precision in ("ieee", "tf32") if dtype == torch.float32 else ("ieee",):
                    exact = members | {"PRECISION": precision}
                    tiled = f"{group} {'tf32' if precision == 'tf32' else short}"
                    yield _variant(tiled, forward.tile_products, dtype, group, exact | fused)
                    yield _variant(tiled, backward.tile_gradients, dtype, group, exact)
            yield _variant(name, backward.input_gradients, dtype, group, own)
        block: dict[str, Any] = {"FEATURES": 16, "SAMPLES": 64, "WRITE": True, "SUM": True}
        for code, called in ((1, "relu"), (3, "gelu")):
            constants = block | {"ACTIVATION": code}
            yield _Variant(f"{called} {short}", backward.through_activation, dtype, constants, 4)
        yield _Variant(short, turning.turn, dtype, {"SIDE": 32}, 4)
        yield _Variant(short, lookups.look_up, dtype, {"SLOTS": 64}, 4)
        yield _Variant(short, lookups.look_up_gradients, dtype, {"SLOTS": 64}, 4)


def _variant(
    name: str, kernel: Any, dtype: torch.dtype, group: int, constants: dict[str, Any]
) -> _Variant:
    sizes = sizes_for(kernel.__name__, group, dtype, BATCH, "")
    warps = sizes.pop("num_warps")
    return _Variant(name, kernel, dtype, constants | sizes, warps)


def _compile(variant: _Variant, architecture: int) -> Artefact:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = variant.kernel
    # As a launch does: samples lie side by side, memory is aligned.
    constants = variant.constants | {name: 1 for name in kernel.arg_names if _is_unit(name)}
    signature = {
        name: "constexpr" if name in constants else _type(name, variant.dtype)
        for name in kernel.arg_names
    }
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, kind in enumerate(signature.values())
        if kind.startswith("*")
    }
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", architecture, 32)
    made = triton.compile(source, target=target, options={"num_warps": variant.warps})
    ptx, cubin = made.asm["ptx"], made.asm["cubin"]
    registers, spilled = _registers(ptx)
    return Artefact(
        kernel.__name__,
        variant.name,
        architecture,
        ptx,
        cubin,
        registers,
        spilled,
        made.metadata.shared,
        variant.warps,
    )


def _is_unit(name: str) -> bool:
    """Whether an argument is a stride of neighbours."""
    return name.endswith("_sample") or name == "source_column"


def _type(name: str, dtype: torch.dtype) -> str:
    if name in _FLOATS:
        return f"*{_NAMES[dtype]}"
    if name == "tokens":
        return "*i64"
    return "*i32" if name in _INDICES else "i32"


def _registers(ptx: str) -> tuple[int, int]:
    """Return registers and spilled bytes of a thread, as the assembler says."""
    named = re.search(r"\.target (\w+)", ptx)
    assert named is not None
    from triton.backends.nvidia.compiler import get_ptxas

    assembler = get_ptxas(int(re.sub(r"\D", "", named[1]))).path
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "kernel.ptx"
        text.write_text(ptx)
        command = [assembler, "-v", f"--gpu-name={named[1]}", text, "-o", f"{folder}/kernel"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    spilled = re.search(r"(\d+) bytes spill stores", said)
    return int(registers[1]) if registers else 0, int(spilled[1]) if spilled else 0
