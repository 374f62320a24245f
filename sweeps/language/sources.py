"""What came in from outside: the user's own modules and files that a run names, with their hashes.

They are part of a run's identity, so that an edited file makes new runs and old ones are kept.
Every text in a spec of the form `package.module:NAME`, or Gymnasium's `module:Env-v0`, counts if
there is such a module and it is none of ours; so do the files that
`sweeps.language.hooks.ReadsFiles` tells of, and the references of a kind itself. What such a module
imports in turn does not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sparse_core.command import PACKAGES
from sparse_core.imports import fingerprint, source
from sweeps.files import read_json
from sweeps.language import hooks
from sweeps.language import spec as specs

NAMED = re.compile(r"(?P<module>[^\W\d]\w*(\.\w+)*):[\w./-]+")


class Fingerprints:
    """Content hashes of modules and files, each taken once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, references: Iterable[str], spec: Any) -> dict[str, str]:
        """Return the hash of every module and file of the user's that a run names, by its name.

        Args:
            references: Of the kind: its name, its spec, its runner.
            spec: What is run, in its canonical form.

        Raises:
            InputError: If a file is not there.
        """
        texts = (*references, *_texts(specs.plain(spec)))
        named = [NAMED.fullmatch(text) for text in texts if ":" in text]
        modules = {match["module"] for match in named if match is not None}
        found = {name: self._module(name) for name in sorted(modules) if not _ours(name)}
        if isinstance(spec, hooks.ReadsFiles):
            for field, path in sorted(spec.files().items()):
                found[f"{field}: {path.name}"] = self._file(field, path)
        return {name: known for name, known in found.items() if known}

    def _module(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = fingerprint(name)
        return self._known[name]

    def _file(self, field: str, path: Path) -> str:
        key = f"{field}={str(path)!r}"
        if key not in self._known:
            try:
                with path.open("rb") as file:
                    self._known[key] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            except OSError as error:
                raise InputError(f"{key}: cannot be read: {error.strerror}", field) from error
        return self._known[key]


def changed(record: Mapping[str, Any], spec: Any) -> list[str]:
    """Return the modules and files that are not those any more of which a run's identity speaks.

    Args:
        record: What the run is.
        spec: Its spec.
    """
    references = [str(record.get(key)) for key in ("kind", "spec_type", "runner")]
    now, then = Fingerprints().of(references, spec), record.get("sources", {})
    return [name for name in {**now, **then} if now.get(name) != then.get(name)]


def origin(sources: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return each source with its hash and, for a module, its file, for a run's provenance."""
    return {
        name: {"sha256": known, "file": str(source(name) or "")} for name, known in sources.items()
    }


def earlier(folder: Path, records: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Return the directories of runs that say the same with other versions of their sources.

    Args:
        folder: Where the runs of a grid have their directories.
        records: What each of the grid's present runs is.
    """
    present = {str(record["run_id"]) for record in records}
    others = [path.parent for path in folder.glob("*/spec.json") if path.parent.name not in present]
    said = {_content(record) for record in records} if others else set()
    return [path for path in sorted(others) if _content(read_json(path / "spec.json")) in said]


def earlier_remark(folder: Path, records: Sequence[Mapping[str, Any]]) -> str:
    """Say in one line what `earlier` has found; empty if nothing."""
    count = len(earlier(folder, records))
    if not count:
        return ""
    runs, verb = ("run", "lies") if count == 1 else ("runs", "lie")
    return f"{count} {runs} of earlier versions of your own code {verb} in {folder}, not shown here"


def _content(record: Mapping[str, Any] | None) -> str:
    return json.dumps([(record or {}).get(key) for key in ("kind", "spec")], sort_keys=True)


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a spec: values, however nested, and keys of mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (*_texts(key), *_texts(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES
