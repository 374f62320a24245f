"""Gradient steps that are compiled where they can be, and Stable-Baselines3's own where not.

A step goes through Stable-Baselines3's own `train`

- if it is the first one, in which optimizers begin their state;
- if neurons are watched in it, or it is one of several whose gradients an update of the topology
  sees (`gradient_steps`);
- for the rest of the run, once something turns out that the compiled step does not know. The
  reason is told once, as a warning, and kept in `uncompiled`; it is not told where no layer is
  condensed, since there is little to compile then.

Both work on the same memory, so they may take turns at any time.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from dstrl.compiled.program import Program, StepProgram
from sparse_core.engine import Engine
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.plain_steps import PlainSteps
from sparse_core.step import CannotCompile


class Compiled(ABC):
    """Mixin of an off-policy algorithm of Stable-Baselines3, put before its class.

    Attributes:
        compiled: Whether steps are compiled where they can be.
        uncompiled: Why steps are not compiled for the rest of the run; None: they are, or no step
            was made yet.
        logged: What a step logs, without `train/`.
    """

    compiled: bool = True
    uncompiled: str | None = None
    logged: tuple[str, ...] = ()
    _program: Program | None = None

    @abstractmethod
    def _make_program(self, batch_size: int) -> Program:
        """Make the program of a gradient step.

        Raises:
            CannotCompile: If there is something that it does not know.
        """

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Make gradient steps, each compiled or by Stable-Baselines3."""
        if not self.compiled or self.uncompiled is not None:
            super().train(gradient_steps, batch_size)  # type: ignore[misc]
            return
        steps: list[Mapping[str, float]] = []
        model: Any = self
        model.policy.set_training_mode(True)
        model._update_learning_rate(_optimizers(model))
        for _ in range(gradient_steps):
            program = self._ready(batch_size)
            if program is None:
                steps.append(self._own_step(batch_size))
            else:
                assert isinstance(program, StepProgram)
                steps.append(program.step())
        record = model.logger.record
        record("train/n_updates", model._n_updates, exclude="tensorboard")
        for name in self.logged:
            values = [step[name] for step in steps if name in step]
            if values:
                record(f"train/{name}", np.mean(values) if len(values) > 1 else values[0])

    def _ready(self, batch_size: int) -> Program | None:
        """Return the program of the coming step; None: it is Stable-Baselines3's."""
        if self.uncompiled is not None:
            return None
        program = self._program
        try:
            if program is None or not program.fits(batch_size):
                program = self._program = None
                if _have_begun(self) and not _watched(self):
                    program = self._program = self._make_program(batch_size)
            if program is not None and program.is_served():
                program.before()
                if not program.holds():
                    program.bind()
                return program
        except CannotCompile as reason:
            self._leave(str(reason))
        return None

    def _own_step(self, batch_size: int) -> dict[str, float]:
        """Let Stable-Baselines3 make a step; return what it logs of it."""
        model: Any = self
        values = model.logger.name_to_value
        names = {f"train/{name}": name for name in self.logged}
        before = {name: values.pop(name) for name in names if name in values}
        super().train(1, batch_size)  # type: ignore[misc]
        logged = {short: float(values[name]) for name, short in names.items() if name in values}
        values.update({name: value for name, value in before.items() if name not in values})
        return logged

    def _leave(self, reason: str) -> None:
        """Leave all further steps to Stable-Baselines3."""
        self.uncompiled, self._program = reason, None
        model: Any = self
        if any(isinstance(module, CondensedLinear) for module in model.policy.modules()):
            name = type(self).__name__
            warnings.warn(
                f"{name}: trains by Stable-Baselines3's own steps, since {reason}", stacklevel=4
            )

    def _excluded_save_params(self) -> list[str]:
        excluded: list[str] = super()._excluded_save_params()  # type: ignore[misc]
        return [*excluded, "_program", "uncompiled"]


def _have_begun(model: Any) -> bool:
    """Whether all optimizers of an algorithm have made their first step."""
    return all(optimizer.state for optimizer in _optimizers(model))


def _watched(model: Any) -> bool:
    """Whether an engine watches neurons, for the coming step alone."""
    engines: Mapping[str, Engine] = getattr(model.policy, "sparse_engines", {})
    return any(PlainSteps(engine).is_watched() for engine in engines.values())


def _optimizers(model: Any) -> list[Any]:
    owners = model.policy, getattr(model, "actor", None), getattr(model, "critic", None)
    found = [getattr(owner, "optimizer", None) for owner in owners]
    found.append(getattr(model, "ent_coef_optimizer", None))
    return [optimizer for optimizer in found if optimizer is not None]
