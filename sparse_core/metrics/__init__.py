"""What sparse training looks like from outside: numbers for logs and tables.

    density, exploration, neurons     the topology as it is
    TopologyMeter, overlap            how it changes
    dormant_fraction                  neurons that are silent
    memory                            bytes, dense and condensed
    gradient_snr                      how much of the growth gradient is noise
    effective_rank                    of a representation

Operations are counted in `sparse_core.metrics.flops` and `sparse_core.metrics.training_flops`.
"""

from __future__ import annotations

from sparse_core.metrics.changes import Change, Overlap, TopologyMeter, overall, overlap
from sparse_core.metrics.dormancy import (
    ActivationMeter,
    Dormancy,
    dormant_fraction,
    dormant_scores,
)
from sparse_core.metrics.memory import Bytes, Memory, condensed_bytes, memory
from sparse_core.metrics.noise import GradientNoise, SignalToNoise, gradient_snr
from sparse_core.metrics.rank import effective_rank
from sparse_core.metrics.topology import Fractions, NeuronCount, density, exploration, neurons

__all__ = [
    "ActivationMeter",
    "Bytes",
    "Change",
    "Dormancy",
    "Fractions",
    "GradientNoise",
    "Memory",
    "NeuronCount",
    "Overlap",
    "SignalToNoise",
    "TopologyMeter",
    "condensed_bytes",
    "density",
    "dormant_fraction",
    "dormant_scores",
    "effective_rank",
    "exploration",
    "gradient_snr",
    "memory",
    "neurons",
    "overall",
    "overlap",
]
