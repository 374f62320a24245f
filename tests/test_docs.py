"""What README, CONTRIBUTING, CHANGELOG and `docs` name is there: files, modules, commands."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparse_core.command import PACKAGES
from sparse_core.listing import described
from sparse_core.registry import DENSE_METHOD
from sweeps.commands.options import parse_train
from sweeps.commands.parser import BENCHMARKS
from sweeps.commands.parser import make as make_parser
from sweeps.language import kinds

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *(
        page
        for folder in ("", "learn", "understand")
        for page in sorted((ROOT / "docs" / folder).glob("*.md"))
    ),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}

MADE = re.compile(r"^docs/(reference/.+|notebooks/.+|limits|changelog|contributing)(\.md)?$")
"""Pages that are made while the site is built, which is strict about links to them."""

LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"(?<![\w.:/-])((?:[\w.-]+/)+[\w-]+\.(?:py|yaml|md|toml))(?![\w/])")
DOTTED = re.compile(rf"(?<![\w./:-])((?:{'|'.join(PACKAGES)})(?:\.\w+)+(?::\w+)?)")
IMPORT = re.compile(rf"^ *from ((?:{'|'.join(PACKAGES)})[\w.]*) import (.+)$", re.MULTILINE)
COMMAND = re.compile(r"^ {4}(?:\.venv/bin/)?dst (.*)$", re.MULTILINE)
CONTINUED = re.compile(r"\\\n\s*")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)

ALL = [(page, text) for page, text in TEXTS.items()]
SOME = pytest.mark.parametrize(("page", "text"), ALL, ids=list(TEXTS))


def anchors(text: str) -> set[str]:
    """Return what GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def attribute(name: str) -> object:
    """Return the module, or the object in one, that a dotted name means."""
    words = name.replace(":", ".").split(".")
    found: object = importlib.import_module(words[0])
    for end, word in enumerate(words[1:], 2):
        if not hasattr(found, word):
            importlib.import_module(".".join(words[:end]))
        found = getattr(found, word)
    return found


@SOME
def test_links_lead_somewhere(page: str, text: str) -> None:
    for link in LINK.findall(text):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        if MADE.match(os.path.normpath(Path(page).parent / path)):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor and target.suffix == ".md":  # of a picture: the colours it is for
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@SOME
def test_files_that_are_named_exist(page: str, text: str) -> None:
    """A path is one from the root, or from one of the packages."""
    for path in FILE.findall(text):
        if re.search(r"\b[A-Z]{3,}\b", path):
            continue  # `recipes/NAME.yaml`: NAME stands for another word
        if (ROOT / page).parent.joinpath(path).exists() or MADE.match(
            os.path.normpath(Path(page).parent / path)
        ):
            continue
        assert any((ROOT / start / path).exists() for start in ("", *PACKAGES)), path


@SOME
def test_modules_and_what_is_in_them_exist(page: str, text: str) -> None:
    """Lines of recipes apart: they are new, and tests of their own follow them."""
    text = re.sub(r"^ {7}.*$", "", text, flags=re.MULTILINE)
    for name in DOTTED.findall(text):
        attribute(name)
    for module, names in IMPORT.findall(text):
        for name in names.partition("#")[0].split(","):
            attribute(f"{module}.{name.partition(' as ')[0].strip()}")


def commands() -> list[tuple[str, str]]:
    """Return each page's commands, without the remarks behind them."""
    return [
        (page, command.partition("  #")[0].strip())
        for page, text in TEXTS.items()
        for command in COMMAND.findall(CONTINUED.sub("", text))
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the modules that the pages show, and with the run that they name."""
    run = tmp_path / "runs/train/0123456789ab"
    run.mkdir(parents=True)
    record = {"spec_type": kinds.KINDS["rl"].spec, "spec": {}}
    (run / "spec.json").write_text(json.dumps(record))
    shown: list[str] = []
    for text in TEXTS.values():
        for module in re.findall(r"(?:module|into),?\s+`(\w+)\.py`", text):
            code = next(code for language, code in FENCED.findall(text) if language == "python")
            (tmp_path / f"{module}.py").write_text(code)
            shown.append(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for module in shown:
        sys.modules.pop(module, None)


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_can_be_read(page: str, command: str, folder: Path) -> None:
    """Their options exist and their values are allowed; nothing is run."""
    words = shlex.split(command)
    if words[0] == "train":
        parse_train(kinds.find(words[1]), words[2:], prog="dst")
    elif words[0] == "bench":
        assert words[1] in BENCHMARKS
    else:
        make_parser().parse_args(words)


@SOME
def test_grids_that_are_shown_can_be_read(page: str, text: str, folder: Path) -> None:
    from sweeps.language.grid import parse

    for language, block in FENCED.findall(text):
        if language == "yaml" and "kind:" in block:
            assert parse(block).runs


def test_the_readme_shows_the_way() -> None:
    for page in ("docs/architecture.md", "docs/own_code.md", "CONTRIBUTING.md"):
        assert f"({page})" in TEXTS["README.md"]


def test_the_map_shows_every_room() -> None:
    shown = TEXTS["docs/architecture.md"]
    for package in PACKAGES:
        rooms = {path.parent.name for path in (ROOT / package).rglob("__init__.py")}
        assert not {room for room in rooms if not re.search(rf"\b{room}\b", shown)}


@SOME
def test_lines_are_no_wider_than_120(page: str, text: str) -> None:
    """Tables and code apart, which cannot be folded."""
    prose = FENCED.sub("", text).splitlines()
    assert not [line for line in prose if len(line) > 120 and not line.startswith(("|", "    "))]


@pytest.mark.parametrize("kind", ["methods", "growth", "drop"])
def test_the_page_of_methods_names_all_of_them(kind: str) -> None:
    rows = [line for line in TEXTS["docs/methods.md"].splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert {entry.name for entry in described(kind)} - named <= {DENSE_METHOD}
