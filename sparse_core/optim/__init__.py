"""torch's optimizers with all tensors of a parameter group in one kernel, on the CPU.

    optimizer = sparse_core.optim.Adam(net.parameters(), lr=3e-4)

`Adam`, `AdamW`, `SGD` and `RMSprop` are subclasses of torch's: they take the same options, have the
same state, and what one class has trained the other continues. Steps agree with torch's to rounding
and cost a small network a tenth of its time or less. What has no kernel goes through torch's own
step, which a warning says once. `use_kernels` turns an optimizer of torch's into ours.
"""

from __future__ import annotations

from sparse_core.optim.adam import Adam, AdamW
from sparse_core.optim.conversion import torch_class, use_kernels, use_torch
from sparse_core.optim.rmsprop import RMSprop
from sparse_core.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "RMSprop", "torch_class", "use_kernels", "use_torch"]
