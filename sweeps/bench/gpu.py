"""Speed of condensed layers on a GPU: `dst bench gpu`.

In one run and in turns, by the device's own clock: dense float32, TF32 and bfloat16, torch's CSR
and 2:4 weights, and condensed layers in groups of 1 to 32, at SRigL's layer, SAC's and SimBa's;
then training steps of SAC and of SimBa's critic. First the sizes of the kernels' blocks are tried,
and kept for this device; at the end it says which bars are met, and keeps where `backend="auto"`
may choose condensed layers. Without a GPU it says that nothing is measured. `--compile` compiles
the kernels for GPUs that are not there, and prints their registers and shared memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sweeps.bench.command import exit_code, output, plain_parser, positive
from sweeps.bench.gpu_bars import verdicts
from sweeps.bench.timing import Record, table, write_json

if TYPE_CHECKING:
    import torch

SHAPES = ((3072, 768), (1024, 1024), (512, 2048))
"""SRigL's layer, SAC's hidden one, one of SimBa's critic: inputs and outputs."""

BATCHES = (1, 16, 64, 256, 1024, 4096)
SPARSITIES = (0.8, 0.9, 0.95, 0.99)
BAR = (3072, 768, 256, 0.9)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dst bench gpu`."""
    parser = plain_parser("dst bench gpu", __doc__)
    parser.add_argument("--json", type=output, metavar="FILE", help="write records to it")
    parser.add_argument("--quick", action="store_true", help="batch 256 and 90 % only")
    parser.add_argument("--compile", action="store_true", help="compile for GPUs, measure nothing")
    parser.add_argument(
        "--rounds", type=positive, default=15, metavar="N", help="blocks of each; default: 15"
    )
    options = parser.parse_args(arguments)
    if options.compile:
        return compile_all()
    import torch

    from sparse_core.kernels.gpu.support import why_not

    records: list[Record] = []
    measured: dict[str, float] = {}
    device = torch.device("cuda")
    missing = why_not(device, torch.float32)
    if not torch.cuda.is_available() or missing is not None:
        print(missing or "no GPU that torch can use: nothing is measured")
    else:
        print(torch.cuda.get_device_name(device), f"torch {torch.__version__}", flush=True)
        for found in measure(device, options.quick, options.rounds, measured):
            print(table(found), flush=True)
            records += found
    print(*verdicts(measured), sep="\n")
    if options.json is not None:
        write_json(options.json, records)
    return 0


def measure(
    device: torch.device, quick: bool, rounds: int, measured: dict[str, float]
) -> Iterator[list[Record]]:
    """Measure layers and steps, and remember block sizes and crossovers of the device.

    Args:
        device: A GPU.
        quick: Whether one batch and sparsity are enough.
        rounds: Blocks of each contestant.
        measured: Gets the figures of the bars.

    Yields:
        Records of a layer, or of the steps.
    """
    from sweeps.bench.gpu_clock import in_turns
    from sweeps.bench.gpu_layers import Subject, forward_calls, training_calls, tune
    from sweeps.bench.gpu_steps import step_ratios

    crossovers = []
    for inputs, outputs in SHAPES:
        for batch in (256,) if quick else BATCHES:
            for sparsity in (0.9,) if quick else SPARSITIES:
                subject = Subject(inputs, outputs, batch, sparsity, device)
                if sparsity == 0.9:
                    tune(subject)
                forward = in_turns(forward_calls(subject), rounds, graphs=True)
                training = in_turns(training_calls(subject), rounds, graphs=True)
                place = inputs, outputs, batch, sparsity
                if place == BAR:
                    both, alone = training["condensed 1"], forward["condensed 1"]
                    measured["forward"] = forward["dense"] / alone
                    measured["csr"] = forward["csr"] / alone
                    measured["backward"] = 2 * alone / (both - alone)
                yield _records("forward", place, forward)
                yield _records("training", place, training)
                crossovers += [
                    (outputs, inputs, 1 - sparsity, group, batch, training["dense"] / took)
                    for group, took in _by_group(training)
                ]
    _remember(device, crossovers)
    ratios = step_ratios(device, rounds)
    measured["sac"] = ratios["sac"]["condensed 1"]
    for case, of_case in ratios.items():
        yield [_record(case, (0, 0, 256, 0.9), name, None, of) for name, of in of_case.items()]


def _remember(
    device: torch.device, crossovers: list[tuple[int, int, float, int, int, float]]
) -> None:
    import torch

    from sparse_core.kernels.gpu.tuning import remember_crossovers

    remember_crossovers(torch.cuda.get_device_name(device), torch.float32, crossovers)


def _by_group(training: dict[str, float]) -> list[tuple[int, float]]:
    named = [(name.split(), took) for name, took in training.items()]
    return [(int(words[1]), took) for words, took in named if words[0] == "condensed"]


def _records(
    case: str, place: tuple[int, int, int, float], medians: dict[str, float]
) -> list[Record]:
    dense = medians["dense"]
    return [_record(case, place, name, took, dense / took) for name, took in medians.items()]


def _record(
    case: str,
    place: tuple[int, int, int, float],
    name: str,
    median: float | None,
    ratio: float,
) -> Record:
    inputs, outputs, batch, sparsity = place
    words = name.split()
    group = int(words[1]) if words[0] == "condensed" else 1
    took = None if median is None else round(median, 3)
    return Record(case, inputs, outputs, batch, sparsity, 0, group, name, took, round(ratio, 3))


def compile_all() -> int:
    """Compile the kernels for three architectures, and print what they need."""
    from sparse_core.kernels.gpu.support import has_triton, interpreted

    if not has_triton() or interpreted():
        print("kernels are compiled by Triton (dstrl[gpu]), without TRITON_INTERPRET=1")
        return 2
    from sparse_core.kernels.gpu.artefacts import ARCHITECTURES, compiled

    for architecture in ARCHITECTURES:
        for made in compiled(architecture):
            print(
                f"sm_{architecture}  {made.kernel:18} {made.variant:10} {made.warps} warps  "
                f"{made.registers:3} registers  {made.spilled:3} B spilled  "
                f"{made.shared:6} B shared  {len(made.cubin):6} B code",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("dst bench gpu", main))
