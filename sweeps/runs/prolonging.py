"""Runs that begin where a shorter one has ended, instead of from zero.

The end of a run is its last checkpoint. It is kept if the environment variable `KEEP` says so, and
the record of a run that begins with it names the shorter run's directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sweeps.language import kinds
from sweeps.language.grid import Run
from sweeps.language.hooks import PartOf, is_part_of
from sweeps.language.spec import load
from sweeps.store.directory import RunDir

KEEP = "DST_KEEP_CHECKPOINTS"
"""Environment variable: empty or 0 if a run's checkpoints go with its result."""

FROM = "prolongs"
"""In the record of a run: the directory of the shorter one, seen from its own."""

SAME = ("kind", "runner", "sources")
"""What both records must say alike, besides the spec."""


@dataclass(frozen=True)
class Ended:
    """A finished run whose end was kept.

    Attributes:
        folder: Its directory.
        record: What it is.
        spec: Its spec.
    """

    folder: RunDir
    record: Mapping[str, Any]
    spec: Any


def asked_to_keep() -> bool:
    """Return whether the environment says that the ends of runs are kept."""
    return os.environ.get(KEEP, "") not in ("", "0")


def keeps(record: Mapping[str, Any]) -> bool:
    """Return whether the end of the run with this record is kept."""
    return asked_to_keep() and issubclass(kinds.spec_type(record["spec_type"]), PartOf)


def check_kept(runs: Sequence[Run]) -> None:
    """Raise an InputError if ends are to be kept and no run is of a kind that can be prolonged."""
    if not asked_to_keep():
        return
    names = sorted({run.kind_name for run in runs if not is_part_of(run.spec)})
    if len(names) == len({run.kind_name for run in runs}):
        raise InputError(
            f"keep_checkpoints=True: runs of kind {', '.join(names)} cannot be prolonged",
            field="keep_checkpoints",
        )


def ended(folder: RunDir) -> Ended | None:
    """Return a run whose end was kept; None if it is not finished, or its end was not kept."""
    if not any(folder.checkpoint.glob("*.ckpt")) or folder.result() is None:
        return None
    record = folder.record()
    return Ended(folder, record, load(kinds.spec_type(record["spec_type"]), record["spec"]))


def all_ended(folder: Path) -> list[Ended]:
    """Return the runs in a folder whose ends were kept."""
    found = [ended(RunDir(path.parent)) for path in sorted(folder.glob("*/checkpoint"))]
    return [one for one in found if one is not None]


def longest_part(run: Run, candidates: Sequence[Ended]) -> Ended | None:
    """Return the longest of those runs that this one can go on from; None if there is none.

    Raises:
        InputError: If it could but for a schedule that depends on its length.
    """
    record = run.record()
    parts = {}
    for index, one in enumerate(candidates):
        if all(one.record.get(key) == record.get(key) for key in SAME) and is_part_of(run.spec):
            parts[index] = one.spec.part_of(run.spec) or 0.0
    best = max(parts, key=lambda index: parts[index], default=None)
    return candidates[best] if best is not None and parts[best] else None


def part(run: Run, folder: RunDir) -> Ended:
    """Return the run in a directory as one that another can go on from.

    Raises:
        InputError: If it is not finished, its end was not kept, or the other one cannot.
    """
    one = ended(folder)
    if one is None:
        raise InputError(
            f"prolong={str(folder.path)!r}: must be a finished run whose checkpoint was kept "
            "(--keep-checkpoints)",
            field="prolong",
        )
    if longest_part(run, [one]) is None:
        raise InputError(
            f"prolong={str(folder.path)!r}: must be a run that differs in nothing but fewer steps",
            field="prolong",
        )
    return one


def shorter_ones(
    runs: Sequence[Run], folders: Mapping[str, RunDir], where: Path
) -> dict[str, Ended]:
    """Return what runs without a result go on from, by identity.

    Args:
        runs: All runs.
        folders: Their directories, by identity.
        where: The folder with the shorter runs.

    Raises:
        InputError: If there is nothing for any, or something for one that cannot go on from it.
    """
    kept = all_ended(where)
    left = [run for run in runs if folders[run.run_id].result() is None]
    found = {run.run_id: longest_part(run, kept) for run in left}
    shorter = {name: one for name, one in found.items() if one is not None}
    if left and not shorter:
        raise InputError(
            f"prolong=True: no run in {str(where)!r} differs in nothing but fewer steps and has "
            "its checkpoint kept (--keep-checkpoints)",
            field="prolong",
        )
    return shorter


def record_of(run: Run, folder: RunDir, shorter: Ended | None) -> dict[str, Any]:
    """Return the record of a run in this directory that begins where a shorter one has ended."""
    if shorter is None:
        return run.record()
    seen = os.path.relpath(shorter.folder.path.resolve(), folder.path.resolve())
    return {**run.record(), FROM: seen}


def shorter_one(run: RunDir, record: Mapping[str, Any]) -> Ended | None:
    """Return the run that a record begins with; None: it begins from zero.

    Raises:
        InputError: If its end is not there any more.
    """
    if FROM not in record:
        return None
    found = ended(RunDir(run.path / record[FROM]))
    if found is None:
        raise InputError(f"{FROM}={record[FROM]!r}: its checkpoint is not there any more")
    return found
