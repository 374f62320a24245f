"""The cases of the benchmark of reinforcement learning."""

from __future__ import annotations

from dataclasses import dataclass

METHOD = "srigl"
"""What moves the topology."""


@dataclass(frozen=True)
class Case:
    """What an agent is.

    Attributes:
        algo: `sac`, `td3` or `ppo`.
        net_arch: Hidden layers; of SimBa the blocks of the critic, whose actor has one of 128.
        sparsity: Of the sparse contestants.
        network: `mlp` or `simba`.
    """

    algo: str
    net_arch: tuple[int, ...]
    sparsity: float
    network: str = "mlp"

    @property
    def name(self) -> str:
        """Algorithm, width and percentage, such as `sac-256-90`, or `sac-simba-90`."""
        size = self.net_arch[0] if self.network == "mlp" else self.network
        return f"{self.algo}-{size}-{100 * self.sparsity:.0f}"


CASES = (
    Case("sac", (256, 256), 0.9),
    Case("sac", (1024, 1024), 0.9),
    Case("sac", (1024, 1024), 0.95),
    Case("td3", (256, 256), 0.9),
    Case("td3", (1024, 1024), 0.95),
    Case("ppo", (64, 64), 0.9),
    Case("ppo", (256, 256), 0.9),
    Case("sac", (512, 512), 0.8, "simba"),
    Case("sac", (512, 512), 0.9, "simba"),
)
