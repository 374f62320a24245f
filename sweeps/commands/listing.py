"""What can be named in grids and on the command line, each with one line and its source.

The packages list their own, which are reached by import string; nothing here imports torch.
"""

from __future__ import annotations

from importlib import resources

from sparse_core.checks import one_of
from sparse_core.imports import load
from sparse_core.listing import Entry
from sparse_core.strict_yaml import read_yaml
from sweeps.language.grid import packaged
from sweeps.language.header import read_header
from sweeps.language.kinds import KINDS
from sweeps.launchers.choice import LAUNCHERS
from sweeps.trackers.choice import TRACKERS

SPARSE, RL, CL = (
    f"{package}.listing:described" for package in ("sparse_core", "dstrl", "continual")
)
LISTINGS = {
    "methods": SPARSE,
    "growth": SPARSE,
    "drop": SPARSE,
    "distributions": SPARSE,
    "presets": "sweeps.commands.listing:presets",
    "envs": RL,
    "benchmarks": CL,
    "datasets": CL,
    "networks": CL,
    "strategies": CL,
    "baselines": "sweeps.commands.listing:baselines",
    "figures": "sweeps.commands.listing:figures",
    "grids": "sweeps.commands.listing:grids",
    "kinds": "sweeps.commands.listing:kinds",
    "launchers": "sweeps.commands.listing:launchers",
    "trackers": "sweeps.commands.listing:trackers",
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


def presets() -> list[Entry]:
    """Return the published systems and recipes of all kinds of runs."""
    sources = RL, "supervised.listing:described"
    return [
        entry
        for source in sources
        for entry in load("list", source, "a function", callable)("presets")
    ]


def baselines() -> list[Entry]:
    """Return what sparse networks have to beat in kinds `cl` and `crl`, each with what it is."""
    return [
        entry
        for source in (CL, RL)
        for entry in load("list", source, "a function", callable)("baselines")
    ]


def grids() -> list[Entry]:
    """Return the packaged grids, each with what it answers and how long it takes."""
    folder = resources.files("sweeps") / "grids"
    files = {name: folder / f"{name}.yaml" for name in packaged()}
    return [
        Entry(name, _about(file.read_text("utf-8")), f"sweeps/grids/{file.name}")
        for name, file in files.items()
    ]


def figures() -> list[Entry]:
    """Return the figures of the report, each with what it shows."""
    found: list[Entry] = load("list", "sweeps.figures.registry:described", "a function", callable)()
    return found


def kinds() -> list[Entry]:
    """Return the kinds of runs, each with what it is and what its score is."""
    return [Entry(name, f"{kind.title}: {kind.score}", kind.spec) for name, kind in KINDS.items()]


def launchers() -> list[Entry]:
    """Return the launchers of sweeps, each with what it maps runs over."""
    return [Entry(name, text, source) for name, (source, text) in LAUNCHERS.items()]


def trackers() -> list[Entry]:
    """Return the trackers of runs, each with where it shows them."""
    return [Entry(name, text, source) for name, (source, _, text) in TRACKERS.items()]


def _about(text: str) -> str:
    header = read_header(read_yaml(text))
    said = header.question or text.partition("\n")[0].removeprefix("# ")
    return said if header.minutes is None else f"{said} {core_time(header.minutes)}"


def core_time(minutes: float) -> str:
    """Return the time of a grid on one core, as rough as it is known: `25 min`, `3 h`."""
    return f"{minutes:.2g} min" if minutes < 90 else f"{float(f'{minutes / 60:.2g}'):g} h"
