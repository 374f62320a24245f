"""What can be named in grids and on the command line, each with one line and its source.

The packages list their own, which are reached by import string; nothing here imports torch.
"""

from __future__ import annotations

from importlib import resources

from sparse_core.checks import one_of
from sparse_core.imports import load
from sparse_core.listing import Entry
from sweeps.grid import packaged
from sweeps.kinds import KINDS

SPARSE, RL, CL = (
    f"{package}.listing:described" for package in ("sparse_core", "dstrl", "continual")
)
LISTINGS = {
    "methods": SPARSE,
    "growth": SPARSE,
    "drop": SPARSE,
    "distributions": SPARSE,
    "presets": RL,
    "envs": RL,
    "benchmarks": CL,
    "datasets": CL,
    "networks": CL,
    "strategies": CL,
    "grids": "sweeps.listing:grids",
    "kinds": "sweeps.listing:kinds",
}
"""Where each listing comes from: the packages' take its name, those of this module nothing."""


def described(what: str) -> list[Entry]:
    """Return all names of one sort.

    Args:
        what: A key of `LISTINGS`.

    Raises:
        InputError: If there is no such listing.
    """
    one_of("list", what, LISTINGS)
    source = LISTINGS[what]
    found = load("list", source, "a function", callable)
    entries: list[Entry] = found() if source.startswith("sweeps.") else found(what)
    return entries


def grids() -> list[Entry]:
    """Return the packaged grids, each with the first line of its comment."""
    folder = resources.files("sweeps") / "grids"
    files = {name: folder / f"{name}.yaml" for name in packaged()}
    return [
        Entry(name, _first_line(file.read_text("utf-8")), f"sweeps/grids/{file.name}")
        for name, file in files.items()
    ]


def kinds() -> list[Entry]:
    """Return the kinds of runs, each with what it is and what its score is."""
    return [Entry(name, f"{kind.title}: {kind.score}", kind.spec) for name, kind in KINDS.items()]


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")
