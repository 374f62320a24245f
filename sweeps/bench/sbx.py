"""SBX, the JAX sister of Stable-Baselines3, as a contestant in a process of its own.

JAX and torch do not share threads well, and SBX may live in another environment. The process waits
for a line of input while other contestants have their turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from sparse_core.checks import InputError
from sweeps.bench.learning import Times
from sweeps.launchers.environment import importable

INSTALL = (
    "left out, it needs sbx-rl: pip install sbx-rl (extra `peers`), or --peer-python with the "
    "Python of an environment that has it"
)
"""What to say where there is none."""

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class SbxLearner:
    """Stands for an agent that another process trains."""

    def __init__(
        self, algo: str, net_arch: tuple[int, ...], clock: str, threads: int, python: str | None
    ) -> None:
        """Start the process and wait until it has compiled.

        Args:
            algo: `sac`, `td3` or `ppo`.
            net_arch: Hidden layers.
            clock: Name of a clock of `sweeps.bench.learning.CLOCKS`.
            threads: Threads of JAX; more than one means as many as it likes.
            python: Interpreter of the environment that has SBX; None: this one.

        Raises:
            ImportError: If that environment has none; the process has ended then.
            InputError: If `python` cannot be started.
        """
        environment = importable(os.environ) | {"JAX_PLATFORMS": "cpu"}
        if threads == 1:
            flags = filter(None, [environment.get("XLA_FLAGS"), ONE_THREAD])
            environment["XLA_FLAGS"] = " ".join(flags)
        command = [python or sys.executable, "-P", "-m", "sweeps.bench.sbx_worker"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        except OSError as error:
            raise InputError(f"--peer-python {python}: {error.strerror}") from error
        try:
            asked = {"algo": algo, "net_arch": list(net_arch), "clock": clock}
            if not self._ask(asked)["installed"]:
                raise ImportError("no module named sbx")
        except BaseException:
            self.close()
            raise

    def block(self, steps: int) -> Times:
        """Learn for so many environment steps, as `Learner.block` does."""
        return Times(**self._ask(steps))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, question: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; so does its output
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of SBX ended with {self._process.wait()}")
        return json.loads(answer)
