"""Which backend a layer gets with `backend="auto"`: the condensed one, where that pays.

A forward and a backward pass of a `(rows, cols)` layer of density d on one thread cost, in ns,

    masked      50 000 + batch * (0.09 rows cols       + 2.0 (rows + cols)) + 0.2 rows cols
    condensed  175 000 + batch * (w(group) rows cols d + 1.0 (rows + cols))

so a call of a condensed layer costs 125 microseconds more, and it has to save as much. This is a
fit to passes measured in turns (AVX2, MKL, float32; 11 shapes from 17x256 to 3072x768, batches of
32 and 256, sparsities from 50 to 99 %, groups of 1, 2 and 4), with weight on those near the
crossover. Another machine is faster or slower, but the ratios, which decide, depend on it little.
The crossovers that follow, for group 1:

    density              0.5     0.2     0.1     0.05
    batch 256, square      166      77      69      66     neurons, condensed from there on
    batch 32, square      508     235     210     200     neurons

A layer next to a condensed one runs in a chain with it: the call is there anyway, and what passes
between the two is neither unpacked nor packed. So such a layer, which is often the first one of a
network, needs to save 40 microseconds only, and 2 ns for each sample and common feature count as
saved: measured on SAC's gradient step in Stable-Baselines3, batch 256, [128, 128] to [1024, 1024].

Calls of condensed layers have become cheaper since that fit, by some 90 microseconds for square
layers and by less where there are few outputs: layers of 50 to 130 neurons in batches of 256 would
train up to 1.5 times faster condensed at 80 % and above, 1.7 times at 50 %, and stay masked.

With float64 the condensed layer computes with dense weights and never pays.
`sweeps/bench/choice.py` measures the rule against both backends. Optimizer steps are left out: they
favour the condensed layer, whose moments are as few as its weights, so near the crossover the rule
errs on the masked side.

For the inference of a convolution the two forms cost, in ns for each output position and sample,

    masked     0.0133 filters taps
    condensed  w(group) filters taps d + 1.0 (inputs read + filters)    w = 0.1, or 0.055 from g = 4

measured on the convolutions of a Nature CNN and on 3x3 ones of 16 to 256 channels in batches of 8
and 32: from 64 channels on, the condensed form wins at 95 %, in groups of four at 90 %, by 1.1 to
2.4 times. First layers with few channels, and batches below 8, stay dense.
"""

from __future__ import annotations

TYPICAL_BATCH = 256
"""Samples of a training batch where none is named."""

CALL_NS = 125_000
"""What a forward and a backward call of a condensed layer cost more."""

CHAINED_CALL_NS = 40_000
"""The same, of a layer in a chain that is there anyway."""

JOINT_NS = 2.0
"""What a feature between two layers of a chain saves for each sample."""

DENSE_NS = 0.09
"""What a weight of a masked layer costs for each sample."""

CONDENSED_NS = {1: 0.17, 2: 0.1, 4: 0.075, 8: 0.075}
"""What an active weight of a condensed layer costs for each sample, by group."""

FEATURE_NS = 1.0
"""What an input or output of a masked layer costs for each sample more."""

MASKING_NS = 0.2
"""What a weight of a masked layer costs for each batch: two products with the mask."""

CONV_DENSE_NS = 0.0133
"""What a weight of a dense convolution costs for each output position and sample."""

CONV_CONDENSED_NS = {1: 0.1, 2: 0.1, 4: 0.055, 8: 0.055}
"""What an active weight of a condensed convolution costs, by group."""

CONV_BATCH = 8
"""Samples from which condensed convolutions are considered."""


def condensed_pays(
    rows: int,
    cols: int,
    density: float,
    group: int = 1,
    batch: int = TYPICAL_BATCH,
    *,
    joined: int = 0,
) -> bool:
    """Whether a condensed layer trains at least as fast as a masked one, by the rule above.

    Args:
        rows: Neurons.
        cols: Dense fan-in.
        density: Fraction of the weights that is active, in [0, 1]; the largest that there will be.
        group: Consecutive neurons that share their columns.
        batch: Samples of a training batch.
        joined: Inputs and outputs that it has in common with condensed neighbours in a chain.
    """
    for_each_weight = MASKING_NS + batch * (DENSE_NS - CONDENSED_NS[group] * density)
    saved = rows * cols * for_each_weight + batch * (rows + cols) * FEATURE_NS
    saved += batch * joined * JOINT_NS
    return saved >= (CHAINED_CALL_NS if joined else CALL_NS)


def condensed_conv_pays(
    filters: int, taps: int, inputs: int, density: float, group: int, batch: int
) -> bool:
    """Whether a condensed convolution is at least as fast in inference, by the rule above.

    Args:
        filters: Output channels.
        taps: Dense weights of a filter.
        inputs: Input values for each output position: input channels times both strides.
        density: Fraction of the weights that is active.
        group: Consecutive filters that share their columns.
        batch: Samples of a batch.
    """
    dense = CONV_DENSE_NS * filters * taps
    condensed = CONV_CONDENSED_NS[group] * filters * taps * density + inputs + filters
    return batch >= CONV_BATCH and condensed <= dense
