"""What training imports as it goes, imported ahead.

For a process that forks one run after the other, see `sweeps.runs.forkserver`: no random number is
drawn, no thread is started and no kernel is run.
"""

from __future__ import annotations

from importlib import import_module

from numba.core.registry import cpu_target

from sparse_core.registry import DISTRIBUTIONS, DROP_RULES, GROWTH_RULES, METHODS

MODULES = ("sparse_core.layers.calibration", "sparse_core.weights.condensing")


def import_ahead(*others: str) -> None:
    """Import what methods, rules and kernels need once they are used.

    Args:
        others: Further modules to import.
    """
    rules = (*GROWTH_RULES.values(), *DROP_RULES.values(), *DISTRIBUTIONS.values())
    updaters = (method.updater for method in METHODS.values())
    named = [name for name in (*rules, *updaters) if isinstance(name, str)]
    for module in dict.fromkeys([*MODULES, *(name.partition(":")[0] for name in named), *others]):
        import_module(module)
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
