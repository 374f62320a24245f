"""What a policy keeps of a task: its own tensors, and its masks as bits.

    own       whatever is trained and not shared: heads, biases, the log deviation of actions
    shared    the weights of the trunk, told apart by masks

A `TaskParameter` is a parameter of the policy of which each task has values of its own; a
`StoredTask` holds those of one task. Parameters keep their identity: a task's values are put into
them, for the length of a `with` block or for good, so optimizers and target networks need not know.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from sparse_core.bits import Masks, key_of
from sparse_core.checks import InputError
from sparse_core.weights.tensor import SparseTensor


@dataclass(frozen=True)
class TaskParameter:
    """A parameter of the policy of which each task has values of its own.

    Attributes:
        name: Its full name in the policy.
        module: The module that holds it.
        key: Its name there.
    """

    name: str
    module: nn.Module
    key: str

    @property
    def tensor(self) -> nn.Parameter:
        """The parameter."""
        return self.module.get_parameter(self.key)


def task_parameters(policy: nn.Module, shared: Collection[nn.Parameter]) -> list[TaskParameter]:
    """List all parameters that are trained and not shared.

    Args:
        policy: The policy; its submodules `*_target` are not trained.
        shared: The parameters that tasks share.

    Raises:
        ValueError: If a module keeps running statistics, which no task could have for itself.
    """
    seen = {id(parameter) for parameter in shared}
    found = []
    for path, module in policy.named_modules():
        if path.partition(".")[0].endswith("_target"):
            continue
        if getattr(module, "running_mean", None) is not None:
            raise InputError(f"layer {path!r}: its running statistics would be shared by all tasks")
        for key, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                found.append(TaskParameter(f"{path}.{key}" if path else key, module, key))
    return found


class StoredTask(nn.Module):
    """One task's own tensors and masks.

    Attributes:
        values: Its own tensors, by parameter.
        masks: Its masks, by weight.
    """

    def __init__(self, own: Sequence[TaskParameter], tensors: Mapping[str, SparseTensor]) -> None:
        """Take what is in the policy now.

        Args:
            own: The parameters of which it has values of its own.
            tensors: The weights of which it has a mask of its own, by name.
        """
        super().__init__()
        self.values = nn.Module()
        self.masks = Masks()
        for parameter in own:
            self.values.register_buffer(key_of(parameter.name), parameter.tensor.detach().clone())
        for name, tensor in tensors.items():
            self.masks.put(name, tensor.active())

    def value(self, parameter: TaskParameter) -> Tensor:
        """Return its values of a parameter."""
        return self.values.get_buffer(key_of(parameter.name))
