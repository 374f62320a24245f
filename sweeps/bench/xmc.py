"""One training step of a layer with a million inputs and outputs, in a process of its own.

`python -m sweeps.bench.xmc --threads 2` prints a JSON object: seconds of each step, and the peak of
the process's memory in bytes. The dense layer would have 4 TB of weights.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time

from sweeps.bench.command import exit_code, plain_parser, positive


def run(features: int, fan_in: int, batch: int, threads: int, steps: int) -> dict[str, object]:
    """Time forward, backward and SGD steps.

    Args:
        features: Inputs, and outputs.
        fan_in: Weights of an output.
        batch: Samples.
        threads: Threads of the kernels.
        steps: How often to do it, after one step that compiles.

    Returns:
        `seconds` of each step and `peak_bytes` of the process.
    """
    import numpy as np

    from sparse_core.kernels import Pattern, linear_backward, linear_forward

    rng = np.random.default_rng(0)
    columns = np.empty((features, fan_in), np.int32)
    # A draw from each of `fan_in` equal ranges: distinct and ascending, at no memory.
    span = features // fan_in
    for i in range(0, features, 65536):
        block = columns[i : i + 65536]
        block[:] = rng.integers(0, span, block.shape, dtype=np.int32)
        block += np.arange(fan_in, dtype=np.int32) * span
    lengths = np.full(features, fan_in, np.int32)
    pattern = Pattern.from_lengths(columns.reshape(-1), lengths, features, features)
    del columns
    values = rng.standard_normal(pattern.size, dtype=np.float32)
    bias = np.zeros(features, np.float32)
    x = rng.standard_normal((batch, features), dtype=np.float32)
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        y, saved = linear_forward(pattern, values, x, bias, threads=threads)
        y -= 1  # the gradient of half the squared distance to one
        _, dvalues, dbias = linear_backward(pattern, values, saved, y, threads=threads)
        del saved
        assert dvalues is not None and dbias is not None
        dvalues *= 1e-3
        values -= dvalues
        dbias *= 1e-3
        bias -= dbias
        seconds.append(time.perf_counter() - start)
        del y, _, dvalues, dbias
    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return {"seconds": seconds[1:], "peak_bytes": peak}


def main() -> None:
    """Parse arguments, set threads before Numba is imported, run and print."""
    parser = plain_parser("sweeps.bench.xmc", __doc__)
    parser.add_argument("--features", type=positive, default=1_000_000)
    parser.add_argument("--fan-in", type=positive, default=32)
    parser.add_argument("--batch", type=positive, default=32)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--steps", type=positive, default=5)
    arguments = parser.parse_args()
    if arguments.fan_in > arguments.features:
        parser.error(f"--fan-in {arguments.fan_in}: must be at most --features")
    os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    print(json.dumps(run(**vars(arguments))))


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.xmc", main))
