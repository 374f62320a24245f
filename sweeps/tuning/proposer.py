"""Proposers: which of Optuna's samplers and pruners tune, by name."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from sparse_core.checks import InputError
from sparse_core.imports import extra_of, is_reference, load

SAMPLERS: Mapping[str, str] = {
    "tpe": "optuna.samplers:TPESampler",
    "random": "optuna.samplers:RandomSampler",
    "qmc": "optuna.samplers:QMCSampler",
    "gp": "optuna.samplers:GPSampler",
    "cmaes": "optuna.samplers:CmaEsSampler",
}
NEEDS: Mapping[str, tuple[str, ...]] = {
    "qmc": ("scipy",),
    "gp": ("scipy", "torch"),
    "cmaes": ("cmaes",),
}
"""What samplers need besides Optuna."""

PRUNERS: Mapping[str, str] = {
    "none": "optuna.pruners:NopPruner",
    "median": "optuna.pruners:MedianPruner",
    "halving": "optuna.pruners:SuccessiveHalvingPruner",
}


@dataclass(frozen=True)
class Proposer:
    """How trials are proposed, and when they are given up.

    Attributes:
        sampler: A key of `SAMPLERS`, or `package.module:NAME` of a function of a seed that returns
            one of Optuna's samplers.
        pruner: A key of `PRUNERS`, or `package.module:NAME` of a function without arguments that
            returns one of Optuna's pruners. It is asked after each seed of a trial.
        trials: Trials of each cell; the first third (3 to 10) of `tpe` are drawn at random.
    """

    sampler: str = "tpe"
    pruner: str = "none"
    trials: int = 10

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError(
                f"trials={self.trials!r}: must be an integer of at least 1", field="trials"
            )
        for name, value, table in (
            ("sampler", self.sampler, SAMPLERS),
            ("pruner", self.pruner, PRUNERS),
        ):
            if value not in table and not is_reference(value):
                raise InputError(
                    f"{name}={value!r}: must be one of {', '.join(table)}, or package.module:NAME",
                    field=name,
                )

    @property
    def prunes(self) -> bool:
        """Whether trials may be given up."""
        return self.pruner != "none"

    def make_sampler(self, seed: int, number: int) -> Any:
        """Return the sampler of a trial.

        Args:
            seed: Of the study.
            number: Of the trial. Samplers that know no numbers but those they draw begin at another
                place for each; the points of `qmc` are one sequence, which is spread evenly.
        """
        settings: dict[str, Any] = {"seed": seed if self.sampler == "qmc" else seed + number}
        if self.sampler == "tpe":
            settings |= {
                "n_startup_trials": min(10, max(3, self.trials // 3)),
                "constant_liar": True,
            }
        if self.sampler == "qmc":
            settings |= {"scramble": True, "warn_asynchronous_seeding": False}
        return _made("sampler", self.sampler, SAMPLERS, settings)

    def make_pruner(self) -> Any:
        """Return a pruner."""
        settings = {
            "median": {"n_startup_trials": 3},
            "halving": {"min_resource": 1, "reduction_factor": 2},
        }
        return _made("pruner", self.pruner, PRUNERS, settings.get(self.pruner, {}))


def check_installed(proposer: Proposer) -> None:
    """Look for Optuna and for what the sampler needs besides.

    Raises:
        InputError: If one of them is missing, or what is to make a sampler or pruner makes none.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise InputError(f"dst tune: {error}{extra_of('optuna')}") from None
    for module in NEEDS.get(proposer.sampler, ()):
        if find_spec(module) is None:
            raise InputError(
                f"sampler={proposer.sampler!r}: needs {module}: pip install {module}",
                field="sampler",
            )
    for name, made, base in (
        ("sampler", proposer.make_sampler(0, 0), optuna.samplers.BaseSampler),
        ("pruner", proposer.make_pruner(), optuna.pruners.BasePruner),
    ):
        if not isinstance(made, base):
            value = getattr(proposer, name)
            raise InputError(
                f"{name}={value!r}: returns {type(made).__name__}, must return a {name} of "
                "Optuna's",
                field=name,
            )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out Optuna's warnings that parts of it may still change."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _made(field_name: str, name: str, table: Mapping[str, str], settings: dict[str, Any]) -> Any:
    if name not in table:
        settings = {} if field_name == "pruner" else {"seed": settings["seed"]}
        made = load(field_name, name, f"a function that returns a {field_name} of Optuna's")
        return made(**settings)
    made = load(field_name, table[name], f"a {field_name} of Optuna's")
    with quiet():
        return made(**settings)
