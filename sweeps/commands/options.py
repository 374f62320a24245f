"""Options of `dst train`: a spec read from the command line by tyro, and errors in one line.

Every field of the spec is an option, `--sparse.sparsity 0.95`; where a field is a mapping, each of
its keys is one, `--hyper.gamma 0.99`. `--prolong` and, where a spec has presets, `--preset` are
read first: their values take the place of the defaults.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import itertools
import os
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from sparse_core.checks import InputError
from sparse_core.strict_yaml import read_yaml
from sweeps.commands.helptext import tables_spelt_out
from sweeps.language import hooks
from sweeps.language import spec as specs
from sweeps.language.kinds import Kind
from sweeps.language.kinds import spec_type as spec_type_of
from sweeps.language.spec import unknown
from sweeps.store.directory import RunDir

TRAIN_FLAGS = ("out", "runs-dir", "data", "threads", "track", "keep-checkpoints", "prolong")


@dataclass(frozen=True)
class TrainOptions:
    """What to train, and how.

    Attributes:
        spec: The run.
        out: Directory of the run; None: RUNS_DIR/train/RUN_ID.
        runs_dir: Where runs have their directories.
        data: Folder of data sets; None: what DST_DATA says.
        threads: Threads of the run.
        track: Show the run in tensorboard, wandb, mlflow or package.module:NAME; with commas in
            between for several.
        keep_checkpoints: Keep the end of the run, so that it can be prolonged.
        prolong: Directory of a run whose end was kept: go on from it, with more steps. Whatever is
            not given is as in that run.
    """

    spec: Any
    out: Path | None = None
    runs_dir: Path = Path("runs")
    data: Path | None = None
    threads: int = 1
    track: str = ""
    keep_checkpoints: bool = False
    prolong: Path | None = None

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(
                f"threads={self.threads!r}: must be an integer of at least 1", field="threads"
            )


def parse_train(kind: Kind, arguments: Sequence[str], prog: str) -> TrainOptions:
    """Read the options of one run; `--help` prints them and exits.

    Raises:
        InputError: If an option or its value is wrong.
    """
    spec_type = spec_type_of(kind.spec)
    prolonged = _value_of("--prolong", arguments)
    if prolonged is None:
        start, arguments = _start(spec_type, arguments)
    else:
        start = _spec_of(kind, spec_type, Path(prolonged))
    arguments, keys = _apart(spec_type, _checked(spec_type, arguments))
    said = io.StringIO()
    try:
        asked = {"-h", "--help"} & set(arguments)
        width = contextlib.nullcontext() if asked else _unwrapped()
        with contextlib.redirect_stderr(said), tables_spelt_out(spec_type), width:
            options, rest = tyro.cli(
                _form(spec_type, start),
                prog=prog,
                description=_description(kind, spec_type),
                args=arguments,
                return_unknown_args=True,
            )
    except SystemExit as ending:
        if not ending.code:
            raise
        raise InputError(first_paragraph(said.getvalue())) from None
    items = _items([*rest, *keys], spec_type)
    values = specs.flatten(specs.plain(options.spec)) | items
    return dataclasses.replace(options, spec=specs.load(spec_type, values))


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """Let tyro write as if to a terminal so wide that no word of an error, or path, is cut."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _checked(spec_type: type[Any], arguments: Sequence[str]) -> list[str]:
    """Return the arguments with numbers as tyro reads them, `--steps 1e4` as `--steps 10000`.

    Numbers can be written as in a grid, and what is none is refused in the same words.

    Raises:
        InputError: If a value does not fit its option.
    """
    checked: list[str] = []
    for option, joined, words in _options(arguments):
        typed = _as_typed(spec_type, option, words)
        checked += [f"{option}={typed[0]}"] if joined else [option, *typed]
    return checked


def _apart(spec_type: type[Any], arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments for tyro, and those that are keys of mappings.

    tyro would read the value of a key that a preset has as the type that it has there.
    """
    kept: list[str] = []
    keys: list[str] = []
    for option, joined, words in _options(arguments):
        head, dot, _ = _field(option).partition(".")
        is_key = option.startswith("--") and dot and head in _mappings(spec_type)
        taken = keys if is_key else kept
        taken += [f"{option}={words[0]}"] if joined else [option, *words]
    return kept, keys


def _as_typed(spec_type: type[Any], option: str, words: list[str]) -> list[str]:
    """Return the words that follow an option, numbers as tyro reads them."""
    name = _field(option)
    owner = TrainOptions if specs.annotation(TrainOptions, name) else spec_type
    annotation = specs.annotation(owner, name) if option.startswith("--") else None
    choices = get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if not words or (words == ["None"] and type(None) in choices):
        return words
    if bool in choices:
        head, dot, last = option.removeprefix("--").rpartition(".")
        raise InputError(
            f"{option}: takes no value such as {words[0]!r}, it is {option} or "
            f"--{head}{dot}no-{last}"
        )
    if int in choices or float in choices:
        return [str(specs.coerce_field(owner, name, words[0])), *words[1:]]
    if any(get_args(choice) in ((int, ...), (float, ...)) for choice in choices):
        try:
            return [str(item) for item in specs.coerce_field(owner, name, words)]
        except InputError as error:
            apart = " ".join(words).replace(",", " ").split()
            way_out = f"; put spaces between values: {option} {' '.join(apart)}"
            raise InputError(f"{error}{way_out if apart != words else ''}", error.field) from None
    return words


def first_paragraph(box: str) -> str:
    """Return, in one line, what a box of tyro's says before it comes to hints and help."""
    lines = re.sub(r"\x1b\[[\d;]*m|[\u2500-\u257f]", "", box).splitlines()[1:]
    paragraph: list[str] = []
    for line in map(str.strip, lines):
        if line.strip("-"):
            paragraph.append(line)
        elif paragraph:
            break
    message = re.sub(r"^Error parsing (spec\.|Options: )?", "", " ".join(paragraph))
    return re.sub(r"^([\w.]+): (?=\w+(\[[^=]*\])?=)", r"\1.", message)


def _spec_of(kind: Kind, spec_type: type[Any], folder: Path) -> Any:
    """Return the spec of the run in a directory, which must be of this kind."""
    record = RunDir(folder).record()
    if record.get("spec_type") != kind.spec:
        raise InputError(
            f"prolong={str(folder)!r}: must be a run of the same kind, not {record.get('kind')}",
            field="prolong",
        )
    return specs.load(spec_type, record["spec"])


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """Return the value that an option is given, if it is given."""
    given = [words[0] for name, _, words in _options(arguments) if name == option and words]
    return given[0] if given else None


def _start(spec_type: type[Any], arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """Return the spec that options are to change, and the arguments without `--preset`.

    It is the preset's, for the algorithm and so on that the arguments name, or the default one.
    """
    presets = hooks.presets_of(spec_type)
    if presets is None:
        return spec_type(), list(arguments)
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    reader.add_argument("--preset")
    try:
        said, rest = reader.parse_known_args(arguments)
        if said.preset is None:
            return spec_type(), rest
    except argparse.ArgumentError as error:
        raise InputError(f"{error.argument_name}: must be followed by a value") from error
    given = {"preset": said.preset} | _given(spec_type, rest, presets.EXPAND_READS)
    return specs.load(spec_type, given), rest


def _given(spec_type: type[Any], arguments: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Return what the arguments say of these fields, by dotted name."""
    found: dict[str, Any] = {}
    for option, _, words in _options(arguments):
        name = _field(option)
        if name.partition(".")[0] not in names or not words:
            continue
        if "." in name:
            found[name] = read_yaml(words[0])
        else:
            many = get_origin(specs.annotation(spec_type, name)) is tuple
            found[name] = specs.coerce_field(spec_type, name, words if many else words[0])
    return found


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, bool, list[str]]]:
    """Yield each option, whether it has its value behind `=`, and the words of its value."""
    waiting = list(arguments)
    while waiting:
        option, equals, value = waiting.pop(0).partition("=")
        words = [value]
        if not equals:
            words = list(itertools.takewhile(lambda word: not word.startswith("--"), waiting))
            del waiting[: len(words)]
        yield option, bool(equals), words


def _field(option: str) -> str:
    """Return the dotted name of the field that an option sets."""
    return option.removeprefix("--").replace("-", "_")


def _form(spec_type: type[Any], start: Any) -> type[TrainOptions]:
    """Return `TrainOptions` with the spec's own fields as options, as tyro is to read it."""
    unchecked = _unchecked(spec_type)
    values = {item.name: getattr(start, item.name) for item in dataclasses.fields(unchecked)}
    field_type = Annotated[unchecked, tyro.conf.arg(name="")]  # type: ignore[valid-type]
    spec = ("spec", field_type, dataclasses.field(default_factory=lambda: unchecked(**values)))
    return dataclasses.make_dataclass(
        "Options",
        [spec],
        bases=(TrainOptions,),
        frozen=True,
        namespace={"__doc__": TrainOptions.__doc__},
    )


def _unchecked(spec_type: type[Any]) -> type[Any]:
    """Return a dataclass of the spec's fields without its checks.

    What tyro reads is not all of the spec: keys of mappings come on top, and one may need another.
    """
    hints = get_type_hints(spec_type)
    fields = [
        (item.name, hints[item.name], dataclasses.field(default=item.default))
        if item.default is not dataclasses.MISSING
        else (item.name, hints[item.name], dataclasses.field(default_factory=item.default_factory))
        for item in dataclasses.fields(spec_type)
        if item.init
    ]
    namespace = {"__doc__": spec_type.__doc__}
    return dataclasses.make_dataclass(spec_type.__name__, fields, frozen=True, namespace=namespace)


def _description(kind: Kind, spec_type: type[Any]) -> str:
    said = f"{kind.title}: train one network and write what came out. See also: dst list."
    more = [f"--{name.replace('_', '-')}.KEY VALUE" for name in _mappings(spec_type)]
    return f"{said} More options: {', '.join(more)}." if more else said


def _items(tokens: Sequence[str], spec_type: type[Any]) -> dict[str, Any]:
    """Read what is no field of the spec as keys of mappings: `--hyper.gamma 0.99`."""
    items: dict[str, Any] = {}
    waiting = list(tokens)
    while waiting:
        option, equals, value = waiting.pop(0).partition("=")
        head, _, key = _field(option).partition(".")
        if not option.startswith("--"):
            raise InputError(f"{option!r}: must follow an option, which begins with --")
        if head not in _mappings(spec_type) or not key:
            raise InputError(f"{option}: {unknown(option, _flags(spec_type), 'option')}")
        if not equals and not waiting:
            raise InputError(f"{option}: must be followed by a value")
        items[f"{head}.{key}"] = read_yaml(value if equals else waiting.pop(0))
    return items


def _flags(spec_type: type[Any]) -> list[str]:
    names = [*specs.flatten(specs.plain(spec_type())), *TRAIN_FLAGS]
    return ["--" + name.replace("_", "-") for name in names if name not in _mappings(spec_type)]


def _mappings(spec_type: type[Any]) -> list[str]:
    """Return the fields that are mappings."""
    hints = get_type_hints(spec_type)
    origins = {name: get_origin(hint) or hint for name, hint in hints.items()}
    return [
        name
        for name, origin in origins.items()
        if isinstance(origin, type) and issubclass(origin, Mapping)
    ]
