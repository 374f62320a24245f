"""Grids: a YAML file that stands for a list of runs.

    name: quickstart
    blocks:
      - kind: rl
        base: {env: CartPole-v1, sparse.sparsity: 0.9}
        grid: {sparse.method: [set, rigl], sparse.distribution: [erk, uniform]}
        include: [{sparse.method: dense}]
        exclude: [{sparse.method: set, sparse.distribution: uniform}]
        seeds: 3

What a block says is in `sweeps.language.blocks`, the head of a file in `sweeps.language.header`. A
file with a single block may have its keys at the top. Runs that say the same once canonical are one
run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sparse_core.strict_yaml import read_yaml
from sweeps.language import hooks, kinds
from sweeps.language import spec as specs
from sweeps.language.blocks import BLOCK_KEYS, Block, read_block
from sweeps.language.cells import SEED, Cell
from sweeps.language.fields import check_keys
from sweeps.language.header import HEAD_KEYS, Header, read_header
from sweeps.language.kinds import Kind
from sweeps.language.sources import Fingerprints


@dataclass(frozen=True)
class Run:
    """One run: a canonical spec of a kind, and its identity.

    Attributes:
        kind: Its kind.
        spec: What is run.
        run_id: Its identity.
        cell: What it shares with the same run of other seeds.
    """

    kind: Kind
    spec: Any
    run_id: str
    cell: Cell = field(repr=False, compare=False)

    @property
    def kind_name(self) -> str:
        """Name of its kind."""
        return self.cell.kind_name

    @property
    def sources(self) -> Mapping[str, str]:
        """Hashes of the user's own modules and files that it names."""
        return self.cell.sources

    def shown(self) -> dict[str, Any]:
        """Return all fields by dotted name as a reader is shown them."""
        return {**self.cell.shown, SEED: self.spec.seed}

    def record(self) -> dict[str, Any]:
        """Return what a worker needs to know, as JSON can hold it."""
        return {
            "run_id": self.run_id,
            "kind": self.kind_name,
            "spec_type": self.kind.spec,
            "runner": self.kind.runner,
            "spec": self.cell.plain(self.spec.seed),
            **({"sources": dict(self.sources)} if self.sources else {}),
        }

    def check_data(self) -> None:
        """Let a spec that needs files look for them before anything is run.

        Raises:
            InputError: If they are not where they should be.
        """
        if isinstance(self.spec, hooks.ChecksData):
            try:
                self.spec.check_data()
            except (FileNotFoundError, ValueError) as error:
                raise InputError(str(error)) from error


@dataclass(frozen=True)
class Grid:
    """A named list of different runs, in the order of the file.

    Attributes:
        header: What the file says about itself.
        runs: The runs.
        blocks: The blocks that they come from.
        reference: How the grid was named.
        text: The file.
    """

    header: Header
    runs: tuple[Run, ...]
    blocks: tuple[Block, ...]
    reference: str
    text: str

    @property
    def name(self) -> str:
        """The grid's name."""
        return self.header.name


def make_run(
    kind_name: str, kind: Kind, spec: Any, fingerprints: Fingerprints | None = None
) -> Run:
    """Return the run of a spec in its canonical form.

    Args:
        kind_name: Name of its kind.
        kind: The kind.
        spec: What is to be run.
        fingerprints: Hashes that are known, where many runs are made.

    Raises:
        InputError: If a file that the spec names is not there.
    """
    spec = specs.canonical(spec)
    references = (kind_name, kind.spec, kind.runner)
    found = (fingerprints or Fingerprints()).of(references, spec)
    cell = Cell(kind_name, spec, found)
    return Run(kind, spec, cell.run_id(spec.seed), cell)


def with_seed(run: Run, seed: int, fingerprints: Fingerprints, *, check: bool = True) -> Run:
    """Return the same run with another seed, at less cost than a run that is made anew.

    Args:
        run: The run.
        seed: The seed.
        fingerprints: Hashes that are known.
        check: Whether the spec is to look at the seed; see `sweeps.language.cells.Cell.spec`.

    Raises:
        InputError: If it cannot be a seed of such a run.
    """
    if seed == run.spec.seed:
        return run
    spec = run.cell.spec(seed, check=check)
    if isinstance(spec, hooks.ReadsFiles):  # another seed may read other files
        return make_run(run.kind_name, run.kind, spec, fingerprints)
    return Run(run.kind, spec, run.cell.run_id(seed), run.cell)


def packaged() -> list[str]:
    """Return the names of the grids that come with the package."""
    folder = resources.files("sweeps") / "grids"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_grid(reference: str) -> Grid:
    """Read a grid from a YAML file, or by name from the packaged ones.

    Raises:
        InputError: If there is no such grid, or anything in it is wrong: file, block and key are
            named.
    """
    text = _text_of(reference)
    try:
        return parse(text, reference)
    except InputError as error:
        raise InputError(f"{reference}: {error}") from error


def _text_of(reference: str) -> str:
    path = Path(reference)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"grid {reference!r}: cannot be read: {error}") from error
    if reference in packaged():
        return (resources.files("sweeps") / "grids" / f"{reference}.yaml").read_text("utf-8")
    names = ", ".join(packaged())
    raise InputError(f"grid {reference!r}: no such file, and no packaged grid (those: {names})")


def parse(text: str, reference: str = "") -> Grid:
    """Read a grid from YAML text.

    Raises:
        InputError: If anything in it is wrong; block and key are named.
    """
    document = read_yaml(text)
    if not isinstance(document, dict):
        raise InputError("must be a mapping with 'name' and 'blocks'")
    single = "blocks" not in document
    for key in BLOCK_KEYS:
        if key in document and not single:
            raise InputError(f"{key}: with 'blocks' it belongs into one of them")
    check_keys(document, (*HEAD_KEYS, *(BLOCK_KEYS if single else ["blocks"])))
    header = read_header(document)
    own = _own_kinds(document.get("kinds", {}))
    said = [{key: document[key] for key in BLOCK_KEYS if key in document}]
    if not single:
        said = document["blocks"]
        if not isinstance(said, list) or not said:
            raise InputError("blocks: must be a list of at least one block")
    runs: dict[str, Run] = {}
    blocks = []
    fingerprints = Fingerprints()
    for place, values in enumerate(said, start=1):
        try:
            block = read_block(values, own)
            blocks.append(block)
            for number, spec in enumerate(block.specs()):
                first = make_run(block.kind_name, block.kind, spec, fingerprints)
                for seed in block.seeds:
                    run = with_seed(first, seed, fingerprints, check=number == 0)
                    runs.setdefault(run.run_id, run)
        except InputError as error:
            raise InputError(f"{error}" if single else f"block {place}: {error}") from error
    if not runs:
        raise InputError("exclude: leaves no run at all")
    return Grid(header, tuple(runs.values()), tuple(blocks), reference or header.name, text)


def _own_kinds(values: Any) -> dict[str, Kind]:
    if not isinstance(values, dict):
        raise InputError(f"kinds={values!r}: must be a mapping of names to kinds", field="kinds")
    own = {}
    for name, fields in values.items():
        if not isinstance(fields, dict):
            raise InputError(f"kinds.{name}={fields!r}: must be a mapping with 'spec' and 'runner'")
        try:
            own[str(name)] = specs.load(Kind, fields)
            kinds.check(own[str(name)])
        except InputError as error:
            raise error.below(f"kinds.{name}") from error
    return own
