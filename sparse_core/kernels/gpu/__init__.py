"""Kernels of condensed layers on a GPU, written in Triton (extra `gpu`).

    support      whether they can run, and why not, in one line
    index        a topology on its device: slots by group, and by column
    launch       products and gradients of a layer, for tensors on the device
    forward, backward, turning, lookups      the kernels
    activations  what is fused into them
    tuning       sizes of their blocks, chosen once for each device
    artefacts    the same kernels compiled for GPUs that are not there

Activations are `(features, batch)` with samples side by side, so that a gather of a column reads
consecutive samples; `turning` brings rows into that layout and back. No kernel uses atomics: equal
inputs give equal results. Nothing here is imported, Triton least of all, before a layer on a GPU
runs.
"""

from __future__ import annotations

import os

# Multiply-adds are fused, as on the CPU; Triton warns where nobody has said so.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
