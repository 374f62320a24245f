"""The figures of the report, in their order: what each shows, and where it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from sparse_core.checks import InputError
from sparse_core.imports import is_reference, load
from sparse_core.listing import Entry
from sweeps.figures.sheet import Draw
from sweeps.language import hooks

_HERE = "sweeps.figures"


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        shows: What it shows, for `dst list figures`.
        draw: Import string of a `sweeps.figures.sheet.Draw`.
        needs: Entries of results that it asks for.
    """

    shows: str
    draw: str
    needs: tuple[str, ...] = ()


FIGURES = {
    "scores": Figure("final scores, single runs and intervals", f"{_HERE}.scores:draw"),
    "sparsity": Figure("score against sparsity", f"{_HERE}.against:against_sparsity"),
    "numbers": Figure("score against other axes of numbers", f"{_HERE}.against:against_others"),
    "curves": Figure("learning curves against steps", f"{_HERE}.curves:against_steps"),
    "seconds": Figure(
        "learning curves against measured seconds", f"{_HERE}.curves:against_seconds"
    ),
    "differences": Figure("paired differences to dense, corrected", f"{_HERE}.differences:draw"),
    "profiles": Figure(
        "fraction of runs above each score", f"{_HERE}.profiles:profiles", ("random_score",)
    ),
    "improvement": Figure("probability of beating dense", f"{_HERE}.profiles:improvement"),
    "costs": Figure(
        "weights, FLOPs, bytes and seconds against score", f"{_HERE}.costs:draw", ("flops", "bytes")
    ),
    "density": Figure("density of each layer", f"{_HERE}.by_layer:density"),
    "neurons": Figure("neurons left in each layer", f"{_HERE}.by_layer:neurons"),
    "popularity": Figure(
        "active entries of users and items against popularity",
        f"{_HERE}.popularity:draw",
        ("entries",),
    ),
    "exploration": Figure("weights ever active against score", f"{_HERE}.exploration:draw"),
    "accuracy": Figure(
        "accuracy by task, after each task",
        f"{_HERE}.matrices:accuracy",
        ("accuracy_matrix", "matrix"),
    ),
    "kept": Figure(
        "forgetting, transfer and capacity",
        f"{_HERE}.kept:draw",
        ("forgetting", "backward_transfer", "forward_transfer", "capacity_used"),
    ),
    "overlap": Figure("overlap of tasks' masks", f"{_HERE}.matrices:overlap", ("overlap",)),
    "tasks": Figure("returns by task and time", f"{_HERE}.tasks:draw", ("curves",)),
    "further": Figure("quantities measured on the way", f"{_HERE}.further:draw"),
}


def find(name: str) -> Figure:
    """Return a figure by its name, or by `package.module:NAME` of a function of the user's own.

    Raises:
        InputError: If there is none, or it is no such function.
    """
    if name in FIGURES:
        return FIGURES[name]
    if is_reference(name):
        needs = getattr(_load(name), "needs", ())
        if not isinstance(needs, (tuple, list)) or not all(isinstance(it, str) for it in needs):
            raise InputError(
                f"figures={name!r}: its needs are {needs!r}, must be names of a result's entries",
                field="figures",
            )
        return Figure(name, name, tuple(needs))
    raise InputError(
        f"figures={name!r}: must be one of {', '.join(FIGURES)}, or package.module:NAME of "
        f"{hooks.FIGURE}",
        field="figures",
    )


def function(figure: Figure) -> Draw:
    """Import what draws a figure.

    Raises:
        InputError: If there is none, or it cannot be called as one.
    """
    return _load(figure.draw)


def needs(figures: Iterable[Figure]) -> tuple[str, ...]:
    """Return the entries of results that figures ask for."""
    return tuple(dict.fromkeys(name for figure in figures for name in figure.needs))


def described() -> list[Entry]:
    """Return all figures, each with what it shows and the function that draws it."""
    return [Entry(name, figure.shows, figure.draw) for name, figure in FIGURES.items()]


def _load(reference: str) -> Draw:
    found: Callable[..., Any] = load("figures", reference, hooks.FIGURE, hooks.is_figure)
    return cast(Draw, found)
