"""A training step without autograd: chains of layers forward and backward, and their optimizers.

`Chain` runs an `nn.Sequential` of linear layers and activations on the kernels' own layout, in
memory that it keeps, and writes gradients to arrays of its own. `Trainer` moves parameters by
them, with the moments of the torch optimizer that it stands in for. Both work on the memory of the
module's own tensors: nothing is moved or copied, so whatever else reads or writes those (a forward
pass of the module, `state_dict`, a step of the optimizer itself) agrees with them. What they do not
know they refuse with `CannotCompile`, whose text is the reason.

    chain, critic = Chain(net, Shape.of(256)), ...
    out = chain.forward(x)            # (tiles, features, tile), see `sparse_core.kernels.checked`
    chain.backward(signal)            # gradients of parameters, and of the input if asked for
    trainer.step()

There is no loss in here: it is whoever calls that turns outputs into signals. All of them run on a
`Tape`, the calls of kernels as one function; `on_tape` of chains and trainers puts them on a tape
of one's own, which makes a whole step.

`Passes` are for those who want to keep autograd, their loss and their optimizer: a network as one
function of autograd, which runs a tape forward and one backward.
"""

from __future__ import annotations

from sparse_core.step.chain import Chain
from sparse_core.step.layers import CannotCompile
from sparse_core.step.shape import Shape
from sparse_core.step.tape import Tape
from sparse_core.step.trainer import Trainer
from sparse_core.step.under_autograd import Passes

__all__ = ["CannotCompile", "Chain", "Passes", "Shape", "Tape", "Trainer"]
