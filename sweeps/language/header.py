"""The head of a grid's file: its name, what it answers, how long it takes, how it was tuned."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sparse_core.checks import InputError, at_least
from sweeps.language import spec as specs

HEAD_KEYS = ("name", "question", "minutes", "tuned", "kinds")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{,99}")
LONGEST_QUESTION = 100


@dataclass(frozen=True)
class Tuned:
    """Where values that a grid gives its methods were found.

    Attributes:
        grid: The grid that was tuned.
        trials: Trials of each method, every one of them once with each seed.
        seeds: The seeds of the trials.
        fields: What was searched.
        sampler: What proposed the trials.
        pruner: What gave trials up.
    """

    grid: str
    trials: int
    seeds: tuple[int, ...]
    fields: tuple[str, ...] = ()
    sampler: str = ""
    pruner: str = ""

    def __post_init__(self) -> None:
        at_least("trials", self.trials, 1)
        if not self.seeds or any(seed < 0 for seed in self.seeds):
            raise InputError(f"seeds={list(self.seeds)}: must be a list of seeds >= 0", "seeds")

    def said(self, reported: Collection[int]) -> str:
        """Return what a reader of results must know of it.

        Args:
            reported: The seeds of the runs that are reported.
        """
        seeds = ", ".join(map(str, self.seeds))
        text = f"{self.trials} trials of each method of {self.grid}, with seeds {seeds}"
        if self.fields:
            text += f", of {', '.join(self.fields)}"
        both = [str(seed) for seed in self.seeds if seed in reported]
        if both:
            text += f"; the results are of seeds that it saw too ({', '.join(both)})"
        return text


@dataclass(frozen=True)
class Header:
    """What a grid's file says about itself.

    Attributes:
        name: The grid's name, and that of its folder.
        question: What it answers; empty: it does not say.
        minutes: Of one core, all runs together; None: it does not say.
        tuned: How its methods were tuned; None: it does not say.
    """

    name: str
    question: str = ""
    minutes: float | None = None
    tuned: Tuned | None = None

    @property
    def tuned_fields(self) -> tuple[str, ...]:
        """Fields of which each method has a value of its own."""
        return () if self.tuned is None else self.tuned.fields


def read_header(document: Mapping[str, Any]) -> Header:
    """Read the head of a grid's file.

    Raises:
        InputError: If a value is not what it must be.
    """
    name = document.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(
            f"name={name!r}: must be text of letters, digits, '.', '_' and '-', at most 100",
            field="name",
        )
    question = document.get("question", "")
    if "question" in document and not (
        isinstance(question, str)
        and question.endswith("?")
        and len(question) <= LONGEST_QUESTION
        and "\n" not in question
    ):
        raise InputError(
            f"question={question!r}: must be a line that ends with '?', of at most "
            f"{LONGEST_QUESTION} letters",
            field="question",
        )
    return Header(name, question, _minutes(document), _tuned(document))


def _minutes(document: Mapping[str, Any]) -> float | None:
    minutes = document.get("minutes")
    if "minutes" not in document:
        return None
    number = isinstance(minutes, (int, float)) and not isinstance(minutes, bool)
    if minutes is None or not number or not 0 < minutes < math.inf:
        raise InputError(f"minutes={minutes!r}: must be a positive number", field="minutes")
    return float(minutes)


def _tuned(document: Mapping[str, Any]) -> Tuned | None:
    if "tuned" not in document:
        return None
    values = document["tuned"]
    if not isinstance(values, dict):
        raise InputError(
            f"tuned={values!r}: must be a mapping with 'grid', 'trials' and 'seeds'", field="tuned"
        )
    try:
        return specs.load(Tuned, values)
    except InputError as error:
        raise error.below("tuned") from error
